// Storage f16, packed: two halves in each u32, converted by WGSL's own pack2x16float. Needs no feature; the default.
alias Stored4 = Halves;

// Activations saturate at the largest half. Gradients (SATURATE = false) become infinite instead, so that an overflow
// reaches the gradient norm and the step is skipped.
override SATURATE: bool = true;

fn unpack4(cell: Stored4) -> vec4<f32> {
    let pairs = halves(cell);
    return vec4(unpack2x16float(pairs.x), unpack2x16float(pairs.y));
}

fn pack4(value: vec4<f32>) -> Stored4 {
    if (SATURATE) {
        // Clamped first: beyond the range some drivers pack an infinity, others a NaN.
        let v = clamp(value, vec4(-65504.0), vec4(65504.0));
        return cell_of_halves(vec2(pack2x16float(v.xy), pack2x16float(v.zw)));
    }
    // What does not fit is packed as 1 or -1, whose exponent then becomes that of an infinity: the sign stays. NaN fits
    // nowhere, since comparisons with it are false.
    let fits = abs(value) <= vec4(65504.0);
    let safe = select(clamp(value, vec4(-1.0), vec4(1.0)), value, fits);
    let exponent = select(vec4(0x7c00u, 0x7c000000u, 0x7c00u, 0x7c000000u), vec4(0u), fits);
    return cell_of_halves(vec2(pack2x16float(safe.xy), pack2x16float(safe.zw)) | exponent.xz | exponent.yw);
}
