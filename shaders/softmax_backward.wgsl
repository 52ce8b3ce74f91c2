// Gradient of softmax: dx = y * (dy - sum(dy * y)). dy, y, dx (rows, width) Stored, y from the forward kernel.
//
// Work: ROW_LANES invocations per row.
// Cost: 4 FLOPs per element; reads dy and y, writes dx.

struct Params {
    rows: u32,
    cells: u32,
}

@group(0) @binding(0) var<storage, read> dy: array<Stored4>;
@group(0) @binding(1) var<storage, read> y: array<Stored4>;
@group(0) @binding(2) var<storage, read_write> dx: array<Stored4>;

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
    // The padding of y is zero: it adds nothing to the sum and makes the padding of dx zero.
    var products = vec4<f32>(0.0);
    for (var c = lane; c < cells; c += ROW_LANES) {
        products += unpack4(dy[start + c]) * unpack4(y[start + c]);
    }
    let along = reduce_sum(lid, add4(products));
    for (var c = lane; c < cells; c += ROW_LANES) {
        dx[start + c] = pack4(unpack4(y[start + c]) * (unpack4(dy[start + c]) - along));
    }
}
