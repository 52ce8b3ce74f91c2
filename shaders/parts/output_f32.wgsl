// Output in f32, whatever the storage of the inputs: gradients of weights.
alias Output4 = Floats;

fn pack_output4(value: vec4<f32>) -> Output4 {
    return cell_of_floats(value);
}

fn unpack_output4(cell: Output4) -> vec4<f32> {
    return floats(cell);
}
