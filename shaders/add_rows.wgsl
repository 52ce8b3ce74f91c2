// A table of rows added again and again: y[r,:] = x[r,:] + v[r % period,:], x and y (rows, width), v (period, width).
// Period 1 is the bias of a linear layer; period N adds the position embeddings of N tokens to every sample.
//
// Since v is laid out like period rows of x, the cell of v is the cell of x modulo the cells of the whole table.
// One invocation per cell of four elements. v is small and stays in the cache.
// Cost: 1 FLOP, one read and one write per element: bound by memory.

struct Params {
    cells: u32,       // of x
    table_cells: u32, // of v: period * ceil(width / 4)
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;
@group(0) @binding(1) var<storage, read> v: array<Stored4>;
@group(0) @binding(2) var<storage, read_write> y: array<Stored4>;

override WORKGROUP: u32 = 256u;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let i = group_index(wid, count) * WORKGROUP + lid;
    if (i >= p.cells) {
        return;
    }
    y[i] = pack4(unpack4(x[i]) + unpack4(v[i % p.table_cells]));
}
