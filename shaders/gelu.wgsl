// GELU: y = gelu(x), element by element; the formula and its numerics are in parts/gelu.wgsl.
//
// One invocation per cell of four elements; gelu(0) = 0 keeps the padding zero.
// Cost: about 10 FLOPs with one exponential, one read and one write per element: bound by memory on a GPU.

struct Params {
    cells: u32, // of the whole tensor
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;
@group(0) @binding(1) var<storage, read_write> y: array<Stored4>;

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
    y[i] = pack4(gelu4(unpack4(x[i])));
}
