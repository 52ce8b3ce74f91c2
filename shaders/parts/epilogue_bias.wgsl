// Epilogue: y = value + bias. Its buffers live in group 1, so that those of the kernel never move.
@group(1) @binding(0) var<storage, read> bias: array<Stored4>;

fn finish(cell: u32, bias_cell: u32, value: vec4<f32>) -> vec4<f32> {
    return value + unpack4(bias[bias_cell]);
}

fn keep(cell: u32, value: vec4<f32>) -> vec4<f32> { return value; }
