// Cells of rows, for kernels that join them: which values count, and what they come to.

// Which of a cell's four elements belong to a row of `width`; the others are padding.
fn in_row(cell: u32, width: u32) -> vec4<bool> {
    return vec4<u32>(4u * cell) + vec4<u32>(0u, 1u, 2u, 3u) < vec4<u32>(width);
}

fn add4(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

fn max4(v: vec4<f32>) -> f32 {
    return max(max(v.x, v.y), max(v.z, v.w));
}
