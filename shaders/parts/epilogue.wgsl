// The epilogue of a kernel as its own file names it, in one call. `cell` is the place of the four values in the output, `bias_cell` that
// of their columns in a bias. The file has two steps: `finish` loads and computes, `keep` writes what is kept beside the output. A kernel
// that stores many cells calls the first for several of them, before it looks which are there: their loads are under way together.
fn epilogue(cell: u32, bias_cell: u32, value: vec4<f32>) -> vec4<f32> {
    return keep(cell, finish(cell, bias_cell, value));
}
