// A tile of a product in registers, as the kernels without workgroup memory keep it: up to 32 rows x 8 columns per
// invocation, in 4x4 matrices whose columns are rows of the product. Rows come from the workgroup and are loaded as
// parts/loads_*.wgsl say; columns come from the invocation.

override BLOCKS: u32 = 8u;     // blocks of four rows per invocation, 1, 2, 4 or 8: fewer where registers are scarce
override CELLS: u32 = 2u;      // cells of four columns per invocation, 1 or 2
override WORKGROUP: u32 = 8u;  // invocations side by side along the columns

// Up to 32 rows in one cell of columns, and in two.
struct Tile { r0: Eight, r1: Eight, r2: Eight, r3: Eight }
struct Tiles { c0: Tile, c1: Tile }

// Where the rows of a tile lie in the left operand.
struct Rows { r0: Places, r1: Places, r2: Places, r3: Places }

fn rows_from(row: u32, lane: u32) -> Rows {
    return Rows(places(row, lane), places(row + 8u, lane), places(row + 16u, lane), places(row + 24u, lane));
}

fn add_row(sum: vec4<f32>, rows: mat4x4<f32>, x: vec4<f32>) -> vec4<f32> {
    return fma(rows[3], vec4(x.w), fma(rows[2], vec4(x.z), fma(rows[1], vec4(x.y), fma(rows[0], vec4(x.x), sum))));
}

// Four rows of the product grow by four rows of the left operand times four rows of the right one.
fn add(sum: mat4x4<f32>, x: mat4x4<f32>, b: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(add_row(sum[0], b, x[0]), add_row(sum[1], b, x[1]), add_row(sum[2], b, x[2]), add_row(sum[3], b, x[3]));
}

fn add_eight(sum: Eight, x: Eight, b: mat4x4<f32>) -> Eight {
    var next = sum;
    next.low = add(sum.low, x.low, b);
    if (BLOCKS > 1u) { next.high = add(sum.high, x.high, b); }
    return next;
}

// The tile grows by its rows at the four steps of one cell, times four rows of the right operand in each cell of columns.
fn grow(sum: Tiles, rows: Rows, offset: u32, b0: mat4x4<f32>, b1: mat4x4<f32>) -> Tiles {
    var next = sum;
    var x = eight(0u, rows.r0, offset);
    next.c0.r0 = add_eight(sum.c0.r0, x, b0);
    if (CELLS > 1u) { next.c1.r0 = add_eight(sum.c1.r0, x, b1); }
    if (BLOCKS > 2u) {
        x = eight(0u, rows.r1, offset);
        next.c0.r1 = add_eight(sum.c0.r1, x, b0);
        if (CELLS > 1u) { next.c1.r1 = add_eight(sum.c1.r1, x, b1); }
    }
    if (BLOCKS > 4u) {
        x = eight(0u, rows.r2, offset);
        next.c0.r2 = add_eight(sum.c0.r2, x, b0);
        if (CELLS > 1u) { next.c1.r2 = add_eight(sum.c1.r2, x, b1); }
        x = eight(0u, rows.r3, offset);
        next.c0.r3 = add_eight(sum.c0.r3, x, b0);
        if (CELLS > 1u) { next.c1.r3 = add_eight(sum.c1.r3, x, b1); }
    }
    return next;
}

fn turned(w: mat4x4<f32>, x: mat4x4<f32>, y: mat4x4<f32>, z: mat4x4<f32>, i: u32) -> mat4x4<f32> {
    return transpose(mat4x4(w[i], x[i], y[i], z[i]));
}

// Where the left operand is stored transposed, a place is a cell of four rows, an offset is a step. Four steps of it:
struct Steps { x: Eight, y: Eight, z: Eight, w: Eight }

fn steps_at(cells: Places, offsets: vec4<u32>) -> Steps {
    return Steps(eight(0u, cells, offsets.x), eight(0u, cells, offsets.y), eight(0u, cells, offsets.z),
        eight(0u, cells, offsets.w));
}

// The tile grows by them.
fn grow_turned(sum: Tiles, s: Steps, b0: mat4x4<f32>, b1: mat4x4<f32>) -> Tiles {
    let x = s.x; let y = s.y; let z = s.z; let w = s.w;
    var next = sum;
    var rows = Eight(turned(x.low, y.low, z.low, w.low, 0u), turned(x.low, y.low, z.low, w.low, 1u));
    next.c0.r0 = add_eight(sum.c0.r0, rows, b0);
    if (CELLS > 1u) { next.c1.r0 = add_eight(sum.c1.r0, rows, b1); }
    if (BLOCKS > 2u) {
        rows = Eight(turned(x.low, y.low, z.low, w.low, 2u), turned(x.low, y.low, z.low, w.low, 3u));
        next.c0.r1 = add_eight(sum.c0.r1, rows, b0);
        if (CELLS > 1u) { next.c1.r1 = add_eight(sum.c1.r1, rows, b1); }
    }
    if (BLOCKS > 4u) {
        rows = Eight(turned(x.high, y.high, z.high, w.high, 0u), turned(x.high, y.high, z.high, w.high, 1u));
        next.c0.r2 = add_eight(sum.c0.r2, rows, b0);
        if (CELLS > 1u) { next.c1.r2 = add_eight(sum.c1.r2, rows, b1); }
        rows = Eight(turned(x.high, y.high, z.high, w.high, 2u), turned(x.high, y.high, z.high, w.high, 3u));
        next.c0.r3 = add_eight(sum.c0.r3, rows, b0);
        if (CELLS > 1u) { next.c1.r3 = add_eight(sum.c1.r3, rows, b1); }
    }
    return next;
}

// The next block takes the first one's place: the text of a store then stands in a loop, once. Written out for every
// block it would be what compilers take longest over.
fn next_block(t: Tile) -> Tile {
    return Tile(Eight(t.r0.high, t.r1.low), Eight(t.r1.high, t.r2.low), Eight(t.r2.high, t.r3.low),
        Eight(t.r3.high, t.r3.high));
}

// Blocks of a tile that begin before the last row, and its columns of cells that begin before the last of `cells`. Known
// only when the kernel runs, so that a compiler leaves the loops over them loops.
fn blocks_from(row: u32) -> u32 { return min(BLOCKS, (p.rows - row + 3u) / 4u); }
fn columns_from(first: u32, cells: u32) -> u32 { return min(CELLS, (cells - first + WORKGROUP - 1u) / WORKGROUP); }
