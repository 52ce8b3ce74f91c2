// Parameters of the kernels of attention.

struct Params {
    batches: u32,  // samples times heads
    heads: u32,
    queries: u32,
    keys: u32,
    cells: u32,    // of a row of one head
    tiles: u32,    // workgroups per head and slice
    slices: u32,
    scale: f32,
    masked: u32,   // whether keys are left out
}
