// Gradient of layer normalisation with respect to its input:
//   n = (x - mean) * rstd        g = dy * weight
//   dx = rstd * (g - sum(g) / width - n * sum(g * n) / width) + before
// `before` is the gradient that x has from elsewhere, if any: in a block that of the residual path, which x also takes.
// dy, x, before, dx (rows, width) Stored; weight (width) Stored; mean, rstd (rows) f32 from the forward kernel.
//
// Work: ROW_LANES invocations per row, both sums in one reduction.
// Cost: about 14 FLOPs per element; reads dy, x and before, writes dx.

struct Params {
    rows: u32,
    width: u32,
    cells: u32,
}

@group(0) @binding(0) var<storage, read> dy: array<Stored4>;
@group(0) @binding(1) var<storage, read> x: array<Stored4>;
@group(0) @binding(2) var<storage, read> weight: array<Stored4>;
@group(0) @binding(3) var<storage, read> mean: array<f32>;
@group(0) @binding(4) var<storage, read> rstd: array<f32>;
@group(0) @binding(5) var<storage, read> before: array<Stored4>;
@group(0) @binding(6) var<storage, read_write> dx: array<Stored4>;

// Fixed by the reduction over the workgroup.
override WORKGROUP: u32 = 64u;
// false: weight is not read, every weight is 1.
override AFFINE: bool = true;
// false: before is not read.
override ADDED: bool = false;

fn upstream(start: u32, c: u32) -> vec4<f32> {
    var g = unpack4(dy[start + c]);
    if AFFINE {
        g *= unpack4(weight[c]);
    }
    return g;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let row = group_index(wid, count) * (WORKGROUP / ROW_LANES) + lid / ROW_LANES;
    let lane = lid % ROW_LANES;
    // A row past the end has no cells, but takes part in the reductions: barriers need all invocations.
    let cells = select(0u, p.cells, row < p.rows);
    let start = row * p.cells;
    let average = mean[min(row, p.rows - 1u)];
    let scale = rstd[min(row, p.rows - 1u)];

    // The padding of dy is zero, so g is zero there and both sums may run over whole cells.
    var sum = vec4<f32>(0.0);
    var sum_n = vec4<f32>(0.0);
    for (var c = lane; c < cells; c += ROW_LANES) {
        let g = upstream(start, c);
        sum += g;
        sum_n += g * (unpack4(x[start + c]) - average) * scale;
    }
    let means = reduce_sum2(lid, vec2<f32>(add4(sum), add4(sum_n))) / f32(p.width);

    for (var c = lane; c < cells; c += ROW_LANES) {
        let n = (unpack4(x[start + c]) - average) * scale;
        var v = scale * (upstream(start, c) - means.x - n * means.y);
        if ADDED {
            v += unpack4(before[start + c]);
        }
        dx[start + c] = pack4(select(vec4<f32>(0.0), v, in_row(c, p.width)));
    }
}
