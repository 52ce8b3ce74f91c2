// Next to nothing: one invocation writes one cell. What is left of a launch's time is the launch itself.
//
// y (1) cell F32. Launches that write the same buffer wait for each other, as those of a training step do.
// Cost: writes 16 bytes.

struct Params {
    value: f32,
}

@group(0) @binding(0) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(1)
fn main() {
    y[0] = vec4(p.value);
}
