// Epilogue: y = value gelu'(x), the gradient behind a GELU whose argument x was kept: it lies as the output does.
@group(1) @binding(0) var<storage, read> pre_activation: array<Stored4>;

fn finish(cell: u32, bias_cell: u32, value: vec4<f32>) -> vec4<f32> {
    return value * gelu_slope4(unpack4(pre_activation[cell]));
}

fn keep(cell: u32, value: vec4<f32>) -> vec4<f32> { return value; }
