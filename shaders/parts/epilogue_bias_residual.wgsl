// Epilogue: y = value + bias + residual, the residual laid out like the output.
@group(1) @binding(0) var<storage, read> bias: array<Stored4>;
@group(1) @binding(1) var<storage, read> residual: array<Stored4>;

fn finish(cell: u32, bias_cell: u32, value: vec4<f32>) -> vec4<f32> {
    return value + unpack4(bias[bias_cell]) + unpack4(residual[cell]);
}

fn keep(cell: u32, value: vec4<f32>) -> vec4<f32> { return value; }
