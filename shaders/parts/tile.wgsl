// A tile of a product in registers, as the kernels without workgroup memory keep it: up to 16 rows x 16 columns per
// invocation, in 4x4 matrices whose columns are rows of the product.

override BLOCKS: u32 = 4u;     // blocks of four rows per invocation, 1..4: fewer where rows are few or registers scarce
override CELLS: u32 = 2u;      // cells of four columns per invocation, 1..4
override WORKGROUP: u32 = 8u;  // invocations side by side along the columns

// Four blocks of four rows: of the product in one cell of columns, or of the left operand at four steps.
struct Blocks { r0: mat4x4<f32>, r1: mat4x4<f32>, r2: mat4x4<f32>, r3: mat4x4<f32> }

fn add_row(sum: vec4<f32>, rows: mat4x4<f32>, x: vec4<f32>) -> vec4<f32> {
    return sum + rows[0] * x.x + rows[1] * x.y + rows[2] * x.z + rows[3] * x.w;
}

// Four rows of the product grow by four rows of the left operand times four rows of the right one.
fn add(sum: mat4x4<f32>, x: mat4x4<f32>, rows: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(add_row(sum[0], rows, x[0]), add_row(sum[1], rows, x[1]), add_row(sum[2], rows, x[2]),
        add_row(sum[3], rows, x[3]));
}

// One cell of columns grows: every value loaded is used up to 16 times.
fn grow(sum: Blocks, x: Blocks, rows: mat4x4<f32>) -> Blocks {
    var next = sum;
    next.r0 = add(sum.r0, x.r0, rows);
    if (BLOCKS > 1u) { next.r1 = add(sum.r1, x.r1, rows); }
    if (BLOCKS > 2u) { next.r2 = add(sum.r2, x.r2, rows); }
    if (BLOCKS > 3u) { next.r3 = add(sum.r3, x.r3, rows); }
    return next;
}

// The next block takes the first one's place: the text of a store then stands in a loop, once. Written out for every
// block it would be what compilers take longest over.
fn turned(sum: Blocks) -> Blocks { return Blocks(sum.r1, sum.r2, sum.r3, sum.r3); }

// Blocks of a tile that begin before the last row, and its columns of cells that begin before the last of `cells`. Known
// only when the kernel runs, so that a compiler leaves the loops over them loops.
fn blocks_from(row: u32) -> u32 { return min(BLOCKS, (p.rows - row + 3u) / 4u); }
fn columns_from(first: u32, cells: u32) -> u32 { return min(CELLS, (cells - first + WORKGROUP - 1u) / WORKGROUP); }
