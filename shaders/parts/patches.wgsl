// Rows of a matrix that lie in images (B, C, S, S): row b N + y (S/p) + x, N = (S/p)^2, holds the C p p pixels of one patch,
// which makes a convolution with kernel = stride = p a product, and copies nothing. p is a multiple of 4, so that cells stay
// whole. The sizes are overrides: divisions by them become multiplications.

override PATCHES: u32 = 0u;   // whose rows are patches: 0 nobody's, 1 A's, 2 B's, 3 C's
override CHANNELS: u32 = 1u;  // C
override SIDE: u32 = 4u;      // p
override ACROSS: u32 = 1u;    // S / p

const OF_A = 1u;
const OF_B = 2u;
const OF_C = 3u;

// Where cells of rows lie: in a matrix that begins at cell `base`, its rows `stride` cells apart, or in images, from row `base`
// on.
fn place(patches: bool, base: u32, row: vec4<u32>, cell: vec4<u32>, stride: u32) -> vec4<u32> {
    if (!patches) { return base + row * stride + cell; }
    let n = (base + row) % (ACROSS * ACROSS);
    let strip = (base + row) / (ACROSS * ACROSS) * (CHANNELS * ACROSS) + n / ACROSS;  // of SIDE lines
    let start = (strip * (SIDE * ACROSS) + n % ACROSS) * (SIDE / 4u);
    let line = cell / (SIDE / 4u);  // c p + i
    let down = line / SIDE * (SIDE * ACROSS) + line % SIDE;
    return start + down * (SIDE / 4u * ACROSS) + cell % (SIDE / 4u);
}

// Where the bias of a cell of columns lies: for images there is one value for each channel.
fn bias_place(cell: u32) -> u32 {
    if (PATCHES == OF_C) { return cell / (SIDE * SIDE / 4u); }
    return cell;
}
