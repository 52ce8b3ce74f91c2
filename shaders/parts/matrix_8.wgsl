// Cooperative matrices of 8 x 8 halves with sums in f32: Metal, and lavapipe, where the kernels are tested.
alias MatrixA = coop_mat8x8<f16, A>;
alias MatrixB = coop_mat8x8<f16, B>;
alias MatrixC = coop_mat8x8<f32, C>;

const MATRIX = 8u;

// Halves lie in workgroup memory one by one: Metal loads matrices through pointers to scalars only.
alias Staged = f16;
const STAGED = 4u;  // entries of a cell

// `tiles` is the kernel's workgroup memory.
fn stage(cell: u32, value: vec4<f16>) {
    tiles[4u * cell] = value.x;
    tiles[4u * cell + 1u] = value.y;
    tiles[4u * cell + 2u] = value.z;
    tiles[4u * cell + 3u] = value.w;
}

fn staged(cell: u32) -> vec4<f16> {
    return vec4(tiles[4u * cell], tiles[4u * cell + 1u], tiles[4u * cell + 2u], tiles[4u * cell + 3u]);
}
