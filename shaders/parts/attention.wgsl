// What the three kernels of attention share: parameters, places of rows, products of 4x4 matrices in registers.

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

fn add_row(sum: vec4<f32>, rows: mat4x4<f32>, x: vec4<f32>) -> vec4<f32> {
    return sum + rows[0] * x.x + rows[1] * x.y + rows[2] * x.z + rows[3] * x.w;
}

// Column i of the sum grows by the rows weighted with column i of x.
fn add(sum: mat4x4<f32>, x: mat4x4<f32>, rows: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(add_row(sum[0], rows, x[0]), add_row(sum[1], rows, x[1]), add_row(sum[2], rows, x[2]),
        add_row(sum[3], rows, x[3]));
}

// Cells of four rows of one head. Past the end the last ones repeat: they get no weight, or are not stored.
fn places(head: u32, row: u32, rows: u32, cell: u32) -> vec4<u32> {
    return (head * rows + min(row + vec4(0u, 1u, 2u, 3u), vec4(rows - 1u))) * p.cells + min(cell, p.cells - 1u);
}
