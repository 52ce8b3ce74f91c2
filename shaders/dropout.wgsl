// Dropout (Srivastava et al., 2014), inverted form: y = x / (1 - rate) with probability 1 - rate, else 0.
//
// The draw for a cell is a pure function of (seed, step, stream, cell), so nothing is stored for the backward pass: the
// gradient is this same kernel on dy. The padding of x is zero and stays so, kept or not.
// One invocation per cell of four elements takes one Philox call.
// Cost: about 100 integer operations, one read and one write per cell.

struct Params {
    cells: u32, // of the whole tensor
    stream: u32,
    stream_hi: u32,
    rate: f32, // in [0, 1)
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;
@group(0) @binding(1) var<storage, read> random: array<u32>; // seed_lo, seed_hi, step
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
    let bits = philox(vec4<u32>(i, p.stream, random[2], p.stream_hi), vec2<u32>(random[0], random[1]));
    // The uniform numbers lie in [0, 1), so that rate 0 keeps all.
    let keep = uniform4(bits) >= vec4<f32>(p.rate);
    y[i] = pack4(select(vec4<f32>(0.0), unpack4(x[i]) / (1.0 - p.rate), keep));
}
