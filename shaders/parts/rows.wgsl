// Cells of rows, for kernels that join them: which values count, and what they come to.

// Which of a cell's four elements belong to a row of `width`; the others are padding.
fn in_row(cell: u32, width: u32) -> vec4<bool> {
    return vec4<u32>(4u * cell) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(width);
}

// A cell with zeros for padding. Most rows are whole cells and skip the question.
fn without_padding(cell: u32, width: u32, v: vec4<f32>) -> vec4<f32> {
    if width % 4u == 0u {
        return v;
    }
    return select(vec4<f32>(0.0), v, in_row(cell, width));
}

// Four of a lane's cells, ROW_LANES apart: loaded at once, so that four loads are under way where one would leave a GPU's memory
// waiting for the next.
struct Four { a: vec4<f32>, b: vec4<f32>, c: vec4<f32>, d: vec4<f32> }

// true: a row has at most four cells to a lane, which keeps them in registers between two passes.
override HELD: bool = false;

// The cells of `c`, c + lanes, ... in a row of `cells`; past its end the last one again.
fn four_cells(c: u32, lanes: u32, cells: u32) -> vec4<u32> {
    return min(vec4(c) + lanes * vec4(0u, 1u, 2u, 3u), vec4(cells - 1u));
}

// Whether any lane has a fourth cell: of 768 values and 64 lanes none has.
fn has_fourth(lanes: u32, cells: u32) -> bool {
    return 3u * lanes < cells;
}

fn add4(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

fn max4(v: vec4<f32>) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}
