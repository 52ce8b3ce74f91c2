// Gradient of GELU: dx = dy gelu'(x), element by element; the formula and its numerics are in parts/gelu.wgsl.
//
// The slope is computed again from x instead of being stored in the forward pass: the exponential costs less than one
// more tensor of memory traffic. One invocation per cell of four elements; dy = 0 keeps the padding zero.
// Cost: about 18 FLOPs with one exponential, two reads and one write per element: bound by memory on a GPU.

struct Params {
    cells: u32, // of the whole tensor
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;
@group(0) @binding(1) var<storage, read> dy: array<Stored4>;
@group(0) @binding(2) var<storage, read_write> dx: array<Stored4>;

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
    dx[i] = pack4(unpack4(dy[i]) * gelu_slope4(unpack4(x[i])));
}
