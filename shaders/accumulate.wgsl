// accumulate: dst = dst + scale * src
//
// Shapes: dst, src (any), f32, the same shape; in place. Padding holds 0 in both, so whole cells may be added blindly.
// Work:   one invocation adds one cell of four neighbours, in the order of memory, so that neighbouring invocations
//         touch neighbouring bytes.
// Cost:   2 FLOPs and 12 bytes an element: bandwidth only.
//
// This is how a gradient reaches the slot of its parameter. The slot is f32 whatever the activations are stored as:
// a sum of many small terms loses them one by one when it is rounded to 11 bits after each.

struct Params {
    cells: u32,
    scale: f32,
}

@group(0) @binding(0) var<storage, read> src: array<Floats>;
@group(0) @binding(1) var<storage, read_write> dst: array<Floats>;

// Any multiple of the device's subgroup works; nothing is shared between invocations.
override WORKGROUP: u32 = 256u;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let cell = group_index(wid, count) * WORKGROUP + lid;
    if (cell >= p.cells) {
        return;
    }
    dst[cell] = cell_of_floats(floats(dst[cell]) + p.scale * floats(src[cell]));
}
