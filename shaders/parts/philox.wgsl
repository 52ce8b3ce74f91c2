// Philox4x32-10 (Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3; SC 2011). A counter and a key
// go in, four random words come out. There is no state: the number for (seed, step, stream, cell) is the same on every
// device, in whatever order invocations run, and a second pass can draw it again instead of storing it.
// Cost: 10 rounds of two 32 x 32 -> 64 bit products; WGSL has only 32-bit products, so the high word is put together by
// hand from 16-bit halves.

const PHILOX_M0 = 0xD2511F53u;
const PHILOX_M1 = 0xCD9E8D57u;
// Weyl sequences: the key moves on by the golden ratio and by sqrt(3) - 1 in every round.
const PHILOX_W = vec2<u32>(0x9E3779B9u, 0xBB67AE85u);

// The high 32 bits of a * b. With a = a1 2^16 + a0 and b likewise, `middle` cannot overflow:
// (2^16-1)^2 + 2 (2^16-1) = 2^32 - 1.
fn multiply_high(a: u32, b: u32) -> u32 {
    let a0 = a & 0xFFFFu;
    let a1 = a >> 16u;
    let b0 = b & 0xFFFFu;
    let b1 = b >> 16u;
    let low = a0 * b0;
    let middle = a1 * b0 + (low >> 16u);
    let carry = a0 * b1 + (middle & 0xFFFFu);
    return a1 * b1 + (middle >> 16u) + (carry >> 16u);
}

fn philox(counter: vec4<u32>, key: vec2<u32>) -> vec4<u32> {
    var c = counter;
    var k = key;
    for (var round = 0u; round < 10u; round += 1u) {
        c = vec4<u32>(
            multiply_high(PHILOX_M1, c.z) ^ c.y ^ k.x,
            PHILOX_M1 * c.z,
            multiply_high(PHILOX_M0, c.x) ^ c.w ^ k.y,
            PHILOX_M0 * c.x,
        );
        k += PHILOX_W;
    }
    return c;
}

// Uniform in [0, 1): the upper 24 bits, all of which an f32 holds exactly, so every device returns the same numbers.
fn uniform4(bits: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(bits >> vec4<u32>(8u)) * 5.9604644775390625e-8;
}

// -ln(1 - u) for u in [0, 1). WGSL promises log near 1 only to 2^-21 absolute, which is every digit of a small u: there
// the series u + u^2/2 + u^3/3 + u^4/4 is used (next term below u^4/5 of the sum, 1e-8 at u = 1/64).
fn negative_log(u: vec2<f32>) -> vec2<f32> {
    let series = u * (1.0 + u * (0.5 + u * (1.0 / 3.0 + u * 0.25)));
    return select(-log(vec2<f32>(1.0) - u), series, u < vec2<f32>(0.015625));
}

// Standard normal, two pairs by Box and Muller: r = sqrt(-2 ln(1 - u)), a = 2 pi v - pi, (r cos a, r sin a).
// 1 - u lies in (0, 1], so the logarithm is finite; a lies in [-pi, pi), the only range where WGSL bounds the error of
// cos and sin. Across devices equal up to the rounding of log, cos and sin.
fn normal4(bits: vec4<u32>) -> vec4<f32> {
    let u = uniform4(bits);
    let radius = sqrt(2.0 * negative_log(u.xz));
    let angle = 6.283185307179586 * (u.yw - 0.5);
    let x = radius * cos(angle);
    let y = radius * sin(angle);
    return vec4<f32>(x.x, y.x, x.y, y.y);
}
