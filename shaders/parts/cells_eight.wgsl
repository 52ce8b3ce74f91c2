// Cells of four values as they lie in buffers, and how they are read and written: 16 bytes of floats, 8 bytes of halves.
// Drivers that run eight invocations as one vector go to memory for one invocation after another, once for every number
// of 32 or 64 bits: taken by 64, a cell of floats is two such walks instead of four, one of halves one instead of two. The
// bytes are the same (little-endian, as all that WebGPU runs on). Elsewhere parts/cells_any.wgsl stands here.

alias Floats = vec2<u64>;
alias Halves = u64;

fn floats(cell: Floats) -> vec4<f32> {
    let low = vec2<u32>(cell);
    let high = vec2<u32>(cell >> vec2(32u));
    return bitcast<vec4<f32>>(vec4(low.x, high.x, low.y, high.y));
}
fn cell_of_floats(v: vec4<f32>) -> Floats {
    let bits = bitcast<vec4<u32>>(v);
    return vec2<u64>(bits.xz) | (vec2<u64>(bits.yw) << vec2(32u));
}

fn halves(cell: Halves) -> vec2<u32> { return vec2(u32(cell), u32(cell >> 32u)); }
fn cell_of_halves(v: vec2<u32>) -> Halves { return u64(v.x) | (u64(v.y) << 32u); }
