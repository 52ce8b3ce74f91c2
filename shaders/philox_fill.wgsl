// Random numbers: y = shift + scale * draw, y (rows, width) in f32. The draws are standard normal (NORMAL: shift is the
// mean, scale the standard deviation) or uniform in [0, 1) (shift is the lower end, scale the length).
//
// Element e is word e % 4 of the Philox block of cell e / 4: the number is a pure function of (seed, step, stream,
// element) on every device. One invocation per cell; the padding behind the width is set to zero.
// Cost: about 100 integer operations (and two logarithms, sines and cosines) and one write per cell.

struct Params {
    cells: u32,     // of the whole tensor
    row_cells: u32, // of one row: ceil(width / 4)
    width: u32,
    stream: u32,
    stream_hi: u32,
    shift: f32,
    scale: f32,
}

@group(0) @binding(0) var<storage, read> random: array<u32>; // seed_lo, seed_hi, step
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;

override WORKGROUP: u32 = 256u;
override NORMAL: bool = false; // normal numbers instead of uniform ones

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
    let bits = philox(vec4<u32>(i, p.stream, random[2], p.stream_hi), vec2<u32>(random[0], random[1]));
    var draw = uniform4(bits);
    if (NORMAL) {
        draw = normal4(bits);
    }
    let column = vec4<u32>(4u * (i % p.row_cells)) + vec4<u32>(0u, 1u, 2u, 3u);
    y[i] = select(vec4<f32>(0.0), p.shift + p.scale * draw, column < vec4<u32>(p.width));
}
