// Sums of cooperative matrices on their way to the lanes, through workgroup memory: value by value, for Metal stores matrices through
// pointers to scalars only.
alias Handed = f32;
const HANDED = 4u;  // entries of a cell

// `handed` is the kernel's workgroup memory.
fn handed_cell(cell: u32) -> vec4<f32> {
    return vec4(handed[4u * cell], handed[4u * cell + 1u], handed[4u * cell + 2u], handed[4u * cell + 3u]);
}

fn hand_cell(cell: u32, value: vec4<f32>) {
    handed[4u * cell] = value.x;
    handed[4u * cell + 1u] = value.y;
    handed[4u * cell + 2u] = value.z;
    handed[4u * cell + 3u] = value.w;
}
