// Output in f16 where the inputs are f32: making working copies of weights.
alias Output4 = Halves;

fn pack_output4(value: vec4<f32>) -> Output4 {
    // Clamped first: beyond the range some drivers pack an infinity, others a NaN.
    let v = clamp(value, vec4(-65504.0), vec4(65504.0));
    return cell_of_halves(vec2(pack2x16float(v.xy), pack2x16float(v.zw)));
}

fn unpack_output4(cell: Output4) -> vec4<f32> {
    let pairs = halves(cell);
    return vec4(unpack2x16float(pairs.x), unpack2x16float(pairs.y));
}
