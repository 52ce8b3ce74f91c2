// Parameters of the kernels of attention, and where the rows of heads lie.

struct Params {
    batches: u32,  // samples times heads
    heads: u32,
    tokens: u32,
    row: u32,      // cells of the rows of all heads of a token, side by side: heads times cells
    cells: u32,    // of a row of one head
    tiles: u32,    // workgroups per head and slice
    slices: u32,
    scale: f32,
    masked: u32,   // whether keys are left out
}

// A row of qkv holds three parts, each the rows of all heads side by side.
const Q = 0u;
const K = 1u;
const V = 2u;

// First cell of a token's row of one head, where the rows of tensors hold `parts` parts: 3 in qkv, 1 in o.
fn row_of(head: u32, token: u32, parts: u32, part: u32) -> u32 {
    return ((head / p.heads * p.tokens + token) * parts + part) * p.row + head % p.heads * p.cells;
}
