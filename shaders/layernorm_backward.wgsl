// Gradient of layer normalisation with respect to its input:
//   n = (x - mean) * rstd        g = dy * weight
//   dx = rstd * (g - sum(g) / width - n * sum(g * n) / width) + before
// `before` is the gradient that x has from elsewhere, if any: in a block that of the residual path, which x also takes.
// dy, x, before, dx (rows, width) Stored; weight (width) Stored; mean, rstd (rows) f32 from the forward kernel.
//
// Work: ROW_LANES invocations per row, each with four cells at a time (parts/rows.wgsl), both sums in one reduction. A row of at most
// four cells to a lane stays in registers, as g, n and before, between the two passes; of a longer one dy and x are read twice, the
// second time from cache.
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

fn weighted(g: vec4<f32>, c: u32) -> vec4<f32> {
    if AFFINE {
        return g * unpack4(weight[c]);
    }
    return g;
}

// g of a lane's cells. The padding of dy is zero, so g is zero there and sums may run over whole cells; cells past the end of the
// row are zero here.
fn load_g(start: u32, c: u32) -> Four {
    let own = four_cells(c, ROW_LANES, p.cells);
    let i = start + own;
    let live = select(vec4<f32>(0.0), vec4<f32>(1.0), vec4(c) + ROW_LANES * vec4(0u, 1u, 2u, 3u) < vec4(p.cells));
    return Four(
        live.x * weighted(unpack4(dy[i.x]), own.x),
        live.y * weighted(unpack4(dy[i.y]), own.y),
        live.z * weighted(unpack4(dy[i.z]), own.z),
        live.w * weighted(unpack4(dy[i.w]), own.w),
    );
}

// n of a lane's cells.
fn load_n(start: u32, c: u32, average: f32, scale: f32) -> Four {
    let i = start + four_cells(c, ROW_LANES, p.cells);
    return Four(
        (unpack4(x[i.x]) - average) * scale,
        (unpack4(x[i.y]) - average) * scale,
        (unpack4(x[i.z]) - average) * scale,
        (unpack4(x[i.w]) - average) * scale,
    );
}

// What is added to a lane's cells: on its way with the others, where the row is held, not one by one behind the sums.
fn load_before(start: u32, c: u32) -> Four {
    if !ADDED {
        return Four();
    }
    let i = start + four_cells(c, ROW_LANES, p.cells);
    return Four(unpack4(before[i.x]), unpack4(before[i.y]), unpack4(before[i.z]), unpack4(before[i.w]));
}

fn store(start: u32, c: u32, v: vec4<f32>) {
    if c < p.cells {
        dx[start + c] = pack4(without_padding(c, p.width, v));
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let row = group_index(wid, count) * (WORKGROUP / ROW_LANES) + lid / ROW_LANES;
    let lane = lid % ROW_LANES;
    // A row past the end reads the last one again: barriers need all invocations.
    let own = min(row, p.rows - 1u);
    let start = own * p.cells;
    let average = mean[own];
    let scale = rstd[own];

    var g = Four();
    var n = Four();
    var added = Four();
    var sum = vec4<f32>(0.0);
    var sum_n = vec4<f32>(0.0);
    for (var c = lane; c < p.cells; c += 4u * ROW_LANES) {
        g = load_g(start, c);
        n = load_n(start, c, average, scale);
        if HELD {
            added = load_before(start, c);
        }
        sum += (g.a + g.b) + (g.c + g.d);
        sum_n += (g.a * n.a + g.b * n.b) + (g.c * n.c + g.d * n.d);
    }
    let means = reduce_sum2(lid, vec2<f32>(add4(sum), add4(sum_n))) / f32(p.width);

    if row >= p.rows {
        return;
    }
    for (var c = lane; c < p.cells; c += 4u * ROW_LANES) {
        if !HELD {
            g = load_g(start, c);
            n = load_n(start, c, average, scale);
            added = load_before(start, c);
        }
        store(start, c, scale * (g.a - means.x - n.a * means.y) + added.a);
        store(start, c + ROW_LANES, scale * (g.b - means.x - n.b * means.y) + added.b);
        store(start, c + 2u * ROW_LANES, scale * (g.c - means.x - n.c * means.y) + added.c);
        if has_fourth(ROW_LANES, p.cells) {
            store(start, c + 3u * ROW_LANES, scale * (g.d - means.x - n.d * means.y) + added.d);
        }
    }
}
