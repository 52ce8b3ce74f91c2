// Cooperative matrices of 16 x 16 halves with sums in f32: what GPUs with tensor cores offer through Vulkan.
alias MatrixA = coop_mat16x16<f16, A>;
alias MatrixB = coop_mat16x16<f16, B>;
alias MatrixC = coop_mat16x16<f32, C>;

const MATRIX = 16u;

// Halves lie in workgroup memory in cells of four, so that a driver may load and store 8 bytes at a time.
alias Staged = vec4<f16>;
const STAGED = 1u;  // entries of a cell

// `tiles` is the kernel's workgroup memory.
fn stage(cell: u32, value: vec4<f16>) {
    tiles[cell] = value;
}

fn staged(cell: u32) -> vec4<f16> {
    return tiles[cell];
}
