// Softmax of every row: y = exp(x - max(x)) / sum(exp(x - max(x))). x, y (rows, width) Stored.
//
// Work: ROW_LANES invocations per row. The first pass keeps a running maximum and the sum of exponentials below it
// (Milakov and Gimelshein, arXiv 1805.02867), the second writes.
// Cost: about 8 FLOPs per element; reads x, writes y.

struct Params {
    rows: u32,
    width: u32,
    cells: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;
@group(0) @binding(1) var<storage, read_write> y: array<Stored4>;

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
    var top = LOWEST;
    var sum = 0.0;
    for (var c = lane; c < cells; c += ROW_LANES) {
        let v = select(vec4<f32>(LOWEST), unpack4(x[start + c]), in_row(c, p.width));
        let higher = max(top, max4(v));
        sum = sum * exp(top - higher) + add4(exp(v - higher));
        top = higher;
    }
    let highest = reduce_max(lid, top);
    let scale = 1.0 / reduce_sum(lid, sum * exp(top - highest));
    for (var c = lane; c < cells; c += ROW_LANES) {
        let v = exp(unpack4(x[start + c]) - highest) * scale;
        y[start + c] = pack4(select(vec4<f32>(0.0), v, in_row(c, p.width)));
    }
}
