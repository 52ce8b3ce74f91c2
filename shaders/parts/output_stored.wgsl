// Output as the tensors are stored.
alias Output4 = Stored4;

fn pack_output4(value: vec4<f32>) -> Output4 {
    return pack4(value);
}

fn unpack_output4(cell: Output4) -> vec4<f32> {
    return unpack4(cell);
}
