// Epilogue: y = gelu(value + bias). The argument of the GELU is kept: backward needs the slope there.
@group(1) @binding(0) var<storage, read> bias: array<Stored4>;
@group(1) @binding(1) var<storage, read_write> pre_activation: array<Stored4>;

fn finish(cell: u32, bias_cell: u32, value: vec4<f32>) -> vec4<f32> {
    return value + unpack4(bias[bias_cell]);
}

fn keep(cell: u32, value: vec4<f32>) -> vec4<f32> {
    pre_activation[cell] = pack4(value);
    return gelu4(value);
}
