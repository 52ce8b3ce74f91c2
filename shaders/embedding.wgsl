// Rows of a table by number: y[r, :] = table[ids[r], :], a row of zeros where the id is not in the table.
// table (entries, width) Stored; ids u32 in groups of `group` per padded row; y (rows, width) Stored.
//
// Work: one invocation per cell of y.
// Cost: no arithmetic; reads the rows, writes y.

struct Params {
    rows: u32,
    entries: u32,
    cells: u32,
    group: u32,
    group_stride: u32,
}

@group(0) @binding(0) var<storage, read> table: array<Stored4>;
@group(0) @binding(1) var<storage, read> ids: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<Stored4>;

override WORKGROUP: u32 = 64u;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let index = group_index(wid, count) * WORKGROUP + lid;
    let row = index / p.cells;
    if row >= p.rows {
        return;
    }
    let id = ids[(row / p.group) * p.group_stride + row % p.group];
    if id < p.entries {
        y[index] = table[id * p.cells + index - row * p.cells];
    } else {
        y[index] = pack4(vec4<f32>(0.0));
    }
}
