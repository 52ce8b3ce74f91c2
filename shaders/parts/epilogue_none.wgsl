// Epilogue: y = value. `cell` is the place of the four values in the output, `bias_cell` that of their columns in a bias.
fn epilogue(cell: u32, bias_cell: u32, value: vec4<f32>) -> vec4<f32> {
    return value;
}
