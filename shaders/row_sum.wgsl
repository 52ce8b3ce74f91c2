// Sum of every row: y[r] = sum over c of x[r, c]. x (rows, width) Stored; y (rows) f32.
//
// Work: ROW_LANES invocations per row.
// Cost: 1 FLOP per element; reads x.

struct Params {
    rows: u32,
    cells: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

// Fixed by the reduction over the workgroup.
override WORKGROUP: u32 = 64u;

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
    // The padding is zero, so whole cells may be added.
    var sum = vec4<f32>(0.0);
    for (var c = lane; c < cells; c += ROW_LANES) {
        sum += unpack4(x[start + c]);
    }
    let total = reduce_sum(lid, add4(sum));
    // Up to three rows past the end write the zero padding of the statistics.
    if lane == 0u && row < ((p.rows + 3u) & ~3u) {
        y[row] = select(0.0, total, row < p.rows);
    }
}
