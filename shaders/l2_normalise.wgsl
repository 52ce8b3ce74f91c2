// Every row divided by its length: y = x / max(norm, least),  norm = sqrt(sum(x^2)).
// x, y (rows, width) Stored; norm (rows) f32, as it is without the bound, kept for the backward kernel.
//
// Work: ROW_LANES invocations per row.
// Cost: 3 FLOPs per element; reads x, writes y.

struct Params {
    rows: u32,
    cells: u32,
    least: f32,
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;
@group(0) @binding(1) var<storage, read_write> y: array<Stored4>;
@group(0) @binding(2) var<storage, read_write> norm: array<f32>;

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
    var squares = vec4<f32>(0.0);
    for (var c = lane; c < cells; c += ROW_LANES) {
        let v = unpack4(x[start + c]);
        squares += v * v;
    }
    let size = sqrt(reduce_sum(lid, add4(squares)));
    let scale = 1.0 / max(size, p.least);
    for (var c = lane; c < cells; c += ROW_LANES) {
        y[start + c] = pack4(unpack4(x[start + c]) * scale);
    }
    // Up to three rows past the end write the zero padding of the statistics.
    if lane == 0u && row < ((p.rows + 3u) & ~3u) {
        norm[row] = select(0.0, size, row < p.rows);
    }
}
