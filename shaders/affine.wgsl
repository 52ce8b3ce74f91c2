// One straight line for every element: y = scale x + shift, x and y (rows, width).
//
// One invocation per cell of four elements. The padding behind the width must stay zero, so that sums over whole cells
// stay right: shift falls on the width only.
// Cost: 2 FLOPs, one read and one write per element: bound by memory.

struct Params {
    cells: u32,     // of the whole tensor
    row_cells: u32, // of one row: ceil(width / 4)
    width: u32,
    scale: f32,
    shift: f32,
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
    let column = vec4<u32>(4u * (i % p.row_cells)) + vec4<u32>(0u, 1u, 2u, 3u);
    let line = p.scale * unpack4(x[i]) + p.shift;
    y[i] = pack4(select(vec4<f32>(0.0), line, column < vec4<u32>(p.width)));
}
