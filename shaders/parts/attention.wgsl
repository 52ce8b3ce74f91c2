// What the three kernels of attention share: products of 4x4 matrices in registers.

fn add_row(sum: vec4<f32>, rows: mat4x4<f32>, x: vec4<f32>) -> vec4<f32> {
    return fma(rows[3], vec4(x.w), fma(rows[2], vec4(x.z), fma(rows[1], vec4(x.y), fma(rows[0], vec4(x.x), sum))));
}

// Column i of the sum grows by the rows weighted with column i of x.
fn add(sum: mat4x4<f32>, x: mat4x4<f32>, rows: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(add_row(sum[0], rows, x[0]), add_row(sum[1], rows, x[1]), add_row(sum[2], rows, x[2]),
        add_row(sum[3], rows, x[3]));
}

// The same for eight rows; of a block of four rows, only the low half counts.
fn add_eight(sum: mat4x4<f32>, low: mat4x4<f32>, high: mat4x4<f32>, rows: Eight, block: u32) -> mat4x4<f32> {
    let next = add(sum, low, rows.low);
    if (block > 4u) { return add(next, high, rows.high); }
    return next;
}

// Four cells of four rows.
struct Quad { a: mat4x4<f32>, b: mat4x4<f32>, c: mat4x4<f32>, d: mat4x4<f32> }

// Products of own rows, which are `columns` of one cell, with 16 rows of an operand; of a block of four or eight the rest does
// not count.
fn grow_scores(sum: Quad, columns: mat4x4<f32>, operand: u32, rows: Places, more: Places, at: u32, block: u32) -> Quad {
    var next = sum;
    let x = eight(operand, rows, at);
    next.a = add(sum.a, x.low, columns);
    if (block > 4u) { next.b = add(sum.b, x.high, columns); }
    if (block > 8u) {
        let y = eight(operand, more, at);
        next.c = add(sum.c, y.low, columns);
        next.d = add(sum.d, y.high, columns);
    }
    return next;
}

// Four cells from `cell` on grow by eight rows of an operand. Cells past the end repeat the last; they are not stored.
fn add_quad(sum: Quad, low: mat4x4<f32>, high: mat4x4<f32>, operand: u32, rows: Places, base: u32, cell: u32,
        block: u32) -> Quad {
    let at = base + min(vec4(cell) + vec4(0u, 1u, 2u, 3u), vec4(p.cells - 1u));
    return Quad(add_eight(sum.a, low, high, eight(operand, rows, at.x), block),
        add_eight(sum.b, low, high, eight(operand, rows, at.y), block),
        add_eight(sum.c, low, high, eight(operand, rows, at.z), block),
        add_eight(sum.d, low, high, eight(operand, rows, at.w), block));
}

// First cells of four own rows of one head, as row_of says. Past the end the last ones repeat: they are not stored.
fn own_rows(head: u32, token: u32, parts: u32, part: u32) -> vec4<u32> {
    let rows = min(token + vec4(0u, 1u, 2u, 3u), vec4(p.tokens - 1u));
    return row_of(head, 0u, parts, part) + rows * parts * p.row;
}
