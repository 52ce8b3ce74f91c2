// Storage f16, native: the device stores halves itself (feature SHADER_F16). Arithmetic stays f32.
enable f16;

alias Stored4 = vec4<f16>;

// Activations saturate at the largest half. Gradients (SATURATE = false) become infinite instead, so that an overflow
// reaches the gradient norm and the step is skipped.
override SATURATE: bool = true;

fn unpack4(cell: Stored4) -> vec4<f32> {
    return vec4<f32>(cell);
}

fn pack4(value: vec4<f32>) -> Stored4 {
    let half4 = vec4<f16>(clamp(value, vec4(-65504.0), vec4(65504.0)));
    if (SATURATE) {
        return half4;
    }
    // Twice the largest half is infinite. Tested before packing, since what a conversion does with a value beyond the range
    // differs between devices; NaN fits nowhere, as every comparison with it is false.
    let fits = abs(value) <= vec4(65504.0);
    return half4 * vec4<f16>(select(vec4(2.0), vec4(1.0), fits));  // halves chosen one by one would be unpacked for it
}
