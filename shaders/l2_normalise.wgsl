// Every row divided by its length: y = x / max(norm, least),  norm = sqrt(sum(x^2)).
// x, y (rows, width) Stored; norm (rows) f32, as it is without the bound, kept for the backward kernel.
//
// Work: one workgroup per row.
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
    let row = group_index(wid, count);
    if row >= p.rows {
        return;
    }
    let start = row * p.cells;
    // The padding is zero, so whole cells may be added.
    var squares = vec4<f32>(0.0);
    for (var c = lid; c < p.cells; c += WORKGROUP) {
        let v = unpack4(x[start + c]);
        squares += v * v;
    }
    let size = sqrt(reduce_sum(lid, add4(squares)));
    let scale = 1.0 / max(size, p.least);
    for (var c = lid; c < p.cells; c += WORKGROUP) {
        y[start + c] = pack4(unpack4(x[start + c]) * scale);
    }
    // The last row also writes the zero padding of the norms.
    if lid == 0u || (row + 1u == p.rows && row + lid < ((p.rows + 3u) & ~3u)) {
        norm[row + lid] = select(0.0, size, lid == 0u);
    }
}
