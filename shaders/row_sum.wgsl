// Sum of every row: y[r] = sum over c of x[r, c]. x (rows, width) Stored; y (rows) f32.
//
// Work: one workgroup per row.
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
    let row = group_index(wid, count);
    if row >= p.rows {
        return;
    }
    let start = row * p.cells;
    // The padding is zero, so whole cells may be added.
    var sum = vec4<f32>(0.0);
    for (var c = lid; c < p.cells; c += WORKGROUP) {
        sum += unpack4(x[start + c]);
    }
    let total = reduce_sum(lid, add4(sum));
    // The last row also writes the zero padding of the result.
    if lid == 0u || (row + 1u == p.rows && row + lid < ((p.rows + 3u) & ~3u)) {
        y[row + lid] = select(0.0, total, lid == 0u);
    }
}
