// Layer normalisation of every row (Ba, Kiros and Hinton, arXiv 1607.06450):
//   mean = sum(x) / width      variance = sum((x - mean)^2) / width      rstd = 1 / sqrt(variance + epsilon)
//   y = (x - mean) * rstd * weight + bias
// x, y (rows, width) Stored; weight, bias (width) Stored; mean, rstd (rows) f32, kept for the backward kernels.
//
// Work: ROW_LANES invocations per row, which take its cells in turn, so neighbours read neighbouring memory. The row is
// read twice, the second time from cache: each lane finds mean and squares of its own values in one pass, and the lanes'
// are joined (Chan, Golub and LeVeque, 1979).
// Cost: about 8 FLOPs per element; reads x, writes y.

struct Params {
    rows: u32,
    width: u32,
    cells: u32,
    epsilon: f32,
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;
@group(0) @binding(1) var<storage, read> weight: array<Stored4>;
@group(0) @binding(2) var<storage, read> bias: array<Stored4>;
@group(0) @binding(3) var<storage, read_write> y: array<Stored4>;
@group(0) @binding(4) var<storage, read_write> mean: array<f32>;
@group(0) @binding(5) var<storage, read_write> rstd: array<f32>;

// Fixed by the reduction over the workgroup.
override WORKGROUP: u32 = 64u;
// false: weight and bias are not read, y is the normalised row itself.
override AFFINE: bool = true;

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

    // Differences from the lane's first value: sum(x^2) / width - mean^2 would cancel when the mean is large.
    var shift = 0.0;
    if lane < cells { shift = unpack4(x[start + lane]).x; }
    var sum = vec4<f32>(0.0);
    var squares = vec4<f32>(0.0);
    var held = vec4<f32>(0.0);
    for (var c = lane; c < cells; c += ROW_LANES) {
        // The padding holds 0, not a value: it must not count.
        let live = select(vec4<f32>(0.0), vec4<f32>(1.0), in_row(c, p.width));
        let d = (unpack4(x[start + c]) - shift) * live;
        sum += d;
        squares += d * d;
        held += live;
    }
    let n = add4(held);
    let own = add4(sum) / max(n, 1.0);
    let average = reduce_sum(lid, n * (shift + own)) / f32(p.width);
    let apart = shift + own - average;
    let variance = reduce_sum(lid, add4(squares) - n * own * own + n * apart * apart) / f32(p.width);
    let scale = 1.0 / sqrt(variance + p.epsilon);

    for (var c = lane; c < cells; c += ROW_LANES) {
        var v = (unpack4(x[start + c]) - average) * scale;
        if AFFINE {
            v = v * unpack4(weight[c]) + unpack4(bias[c]);
        }
        y[start + c] = pack4(select(vec4<f32>(0.0), v, in_row(c, p.width)));
    }
    // Up to three rows past the end write the zero padding of the statistics.
    if lane == 0u && row < ((p.rows + 3u) & ~3u) {
        mean[row] = select(0.0, average, row < p.rows);
        rstd[row] = select(0.0, scale, row < p.rows);
    }
}
