// Gradient of dividing a row by its length:
//   dx = (dy - u * sum(dy * u)) / norm,  u = x / norm        below the bound the divisor is a constant: dx = dy / least
// dy, x, dx (rows, width) Stored; norm (rows) f32 from the forward kernel.
//
// Work: one workgroup per row.
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
    let row = group_index(wid, count);
    if row >= p.rows {
        return;
    }
    let start = row * p.cells;
    let scale = 1.0 / max(norm[row], p.least);
    var products = vec4<f32>(0.0);
    for (var c = lid; c < p.cells; c += WORKGROUP) {
        products += unpack4(dy[start + c]) * (unpack4(x[start + c]) * scale);
    }
    let along = select(0.0, reduce_sum(lid, add4(products)), norm[row] > p.least);
    for (var c = lid; c < p.cells; c += WORKGROUP) {
        let u = unpack4(x[start + c]) * scale;
        dx[start + c] = pack4((unpack4(dy[start + c]) - u * along) * scale);
    }
}
