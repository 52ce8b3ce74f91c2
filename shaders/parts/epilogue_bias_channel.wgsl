// Epilogue: y = value + bias, one value of the bias for the whole cell: a channel's. Its buffer lives in group 1.
@group(1) @binding(0) var<storage, read> bias: array<Stored4>;

fn finish(cell: u32, channel: u32, value: vec4<f32>) -> vec4<f32> {
    return value + unpack4(bias[channel / 4u])[channel % 4u];
}

fn keep(cell: u32, value: vec4<f32>) -> vec4<f32> { return value; }
