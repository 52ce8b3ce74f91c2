// Gradient of dividing a row by its length:
//   dx = (dy - u * sum(dy * u)) / norm,  u = x / norm        below the bound the divisor is a constant: dx = dy / least
// dy, x, dx (rows, width) Stored; norm (rows) f32 from the forward kernel.
//
// Work: ROW_LANES invocations per row.
// Cost: 6 FLOPs per element; reads dy and x, writes dx.

struct Params {
    rows: u32,
    cells: u32,
    least: f32,
}

@group(0) @binding(0) var<storage, read> dy: array<Stored4>;
@group(0) @binding(1) var<storage, read> x: array<Stored4>;
@group(0) @binding(2) var<storage, read> norm: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<Stored4>;

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
    let size = norm[min(row, p.rows - 1u)];
    let scale = 1.0 / max(size, p.least);
    var products = vec4<f32>(0.0);
    for (var c = lane; c < cells; c += ROW_LANES) {
        products += unpack4(dy[start + c]) * (unpack4(x[start + c]) * scale);
    }
    let along = select(0.0, reduce_sum(lid, add4(products)), size > p.least);
    for (var c = lane; c < cells; c += ROW_LANES) {
        let u = unpack4(x[start + c]) * scale;
        dx[start + c] = pack4((unpack4(dy[start + c]) - u * along) * scale);
    }
}
