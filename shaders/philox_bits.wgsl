// The raw words of the generator: cell i of y holds Philox4x32-10 of the counter (start + i, stream, step, stream_hi)
// under the key (seed_lo, seed_hi). y (rows, width) u32. With it a device is held against the published known answers.
//
// One invocation per cell of four words; the padding behind the width is set to zero.
// Cost: about 100 integer operations and one write per cell.

struct Params {
    cells: u32,     // of the whole tensor
    row_cells: u32, // of one row: ceil(width / 4)
    width: u32,
    start: u32,
    stream: u32,
    stream_hi: u32,
}

@group(0) @binding(0) var<storage, read> random: array<u32>; // seed_lo, seed_hi, step
@group(0) @binding(1) var<storage, read_write> y: array<vec4<u32>>;

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
    let counter = vec4<u32>(p.start + i, p.stream, random[2], p.stream_hi);
    let bits = philox(counter, vec2<u32>(random[0], random[1]));
    let column = vec4<u32>(4u * (i % p.row_cells)) + vec4<u32>(0u, 1u, 2u, 3u);
    y[i] = select(vec4<u32>(0u), bits, column < vec4<u32>(p.width));
}
