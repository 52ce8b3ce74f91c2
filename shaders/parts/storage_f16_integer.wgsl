// Storage f16, by integer arithmetic: what a half is, bit by bit. Works on every device.
// A half has 1 sign bit, 5 exponent bits (bias 15) and 10 fraction bits; an f32 has 1, 8 (bias 127) and 23.
alias Stored4 = Halves;

// Activations saturate at the largest half. Gradients (SATURATE = false) become infinite instead, so that an overflow
// reaches the gradient norm and the step is skipped.
override SATURATE: bool = true;

fn half_to_float(h: u32) -> f32 {
    let sign = (h & 0x8000u) << 16u;
    let exponent = (h >> 10u) & 31u;
    let fraction = h & 1023u;
    if (exponent == 0u) {
        // Zero and subnormals: fraction * 2^-24, exact in f32.
        return bitcast<f32>(bitcast<u32>(f32(fraction) * 5.9604644775390625e-8) | sign);
    }
    // 112 = 127 - 15 moves the exponent to the other bias; exponent 31 (infinity, NaN) goes to 255.
    let wide = select(exponent + 112u, 255u, exponent == 31u);
    return bitcast<f32>(sign | (wide << 23u) | (fraction << 13u));
}

fn float_to_half(x: f32) -> u32 {
    let bits = bitcast<u32>(x);
    let sign = (bits >> 16u) & 0x8000u;
    let magnitude = bits & 0x7fffffffu;
    if (magnitude > 0x477fe000u) {
        // Beyond 65504, infinite or NaN.
        return sign | select(0x7c00u, 0x7bffu, SATURATE);
    }
    if (magnitude < 0x38800000u) {
        // Below 2^-14: a subnormal half, fraction = |x| * 2^24 rounded to nearest even. Adding 2^23 to a float below 2^23
        // leaves exactly that integer in the fraction bits, but a compiler may fold it away: so round with integers.
        let exponent = magnitude >> 23u;
        if (exponent < 102u) {
            return sign;
        }
        let significand = (magnitude & 0x7fffffu) | 0x800000u;
        let shift = 126u - exponent;
        let kept = significand >> shift;
        let rest = significand & ((1u << shift) - 1u);
        let tie = 1u << (shift - 1u);
        let up = rest > tie || (rest == tie && (kept & 1u) == 1u);
        return sign | (kept + select(0u, 1u, up));
    }
    // Round the 13 dropped bits to nearest even; a carry into the exponent is the right result.
    let rounded = magnitude + 0xfffu + ((magnitude >> 13u) & 1u);
    return sign | ((rounded - 0x38000000u) >> 13u);
}

fn unpack4(cell: Stored4) -> vec4<f32> {
    let pairs = halves(cell);
    return vec4(
        half_to_float(pairs.x & 0xffffu), half_to_float(pairs.x >> 16u),
        half_to_float(pairs.y & 0xffffu), half_to_float(pairs.y >> 16u),
    );
}

fn pack4(value: vec4<f32>) -> Stored4 {
    return cell_of_halves(vec2(
        float_to_half(value.x) | (float_to_half(value.y) << 16u),
        float_to_half(value.z) | (float_to_half(value.w) << 16u),
    ));
}
