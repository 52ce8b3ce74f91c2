// Sums of cooperative matrices on their way to the lanes, through workgroup memory: by cells of four values. A lane reads 16 bytes at
// once, and eight lanes meet in no bank, side by side or in rows that padding shifts; value by value four of them would.
alias Handed = vec4<f32>;
const HANDED = 1u;  // entries of a cell

// `handed` is the kernel's workgroup memory.
fn handed_cell(cell: u32) -> vec4<f32> {
    return handed[cell];
}

fn hand_cell(cell: u32, value: vec4<f32>) {
    handed[cell] = value;
}
