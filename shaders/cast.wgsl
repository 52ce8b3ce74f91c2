// The same values in another storage: y = x, f32 to f16 or f16 to f32 (master weights to working weights).
//
// One invocation per cell of four elements; rows do not matter, and the padding stays zero.
// Cost: no arithmetic, one read and one write per element: bound by memory.

struct Params {
    cells: u32, // of the whole tensor
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;
@group(0) @binding(1) var<storage, read_write> y: array<Output4>;

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
    y[i] = pack_output4(unpack4(x[i]));
}
