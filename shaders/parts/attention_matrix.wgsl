// What attention's kernels with cooperative matrices share. Products belong to subgroups, which take strips of MATRIX own rows
// in turns; which lane holds which value of a matrix is the device's secret. So products are handed over in workgroup
// memory, and what is done by rows belongs to invocations: two neighbours for each own row, one for its even and one for its odd
// cells, with the sums of those in registers. Two, for workgroup memory and not registers limits how many invocations a processor holds.
// Workgroup memory: own rows | BLOCK rows of the other side | weights of own rows by those, halves all; products, f32.

override WIDTH: u32 = 64u;      // values of a head's row there: d, made whole matrices by zeros
override SUBGROUP: u32 = 32u;   // invocations of a subgroup
override WORKGROUP: u32 = 64u;  // invocations
override ROWS: u32 = WORKGROUP / 2u;  // own rows
const BLOCK = 4u * MATRIX;      // rows of the other side at a time, and columns of a slice of the results

// Cells of a row, two of them padding: the rows of a matrix then start in different banks.
override ROW: u32 = WIDTH / 4u + 2u;
const WEIGHTS_ROW = BLOCK / 4u + 2u;
const PRODUCTS_ROW = BLOCK / 4u + 2u;
override OTHER: u32 = ROWS * ROW;
override WEIGHTS: u32 = OTHER + BLOCK * ROW;
override ENTRIES: u32 = STAGED * (WEIGHTS + ROWS * WEIGHTS_ROW);
override PRODUCTS: u32 = HANDED * ROWS * PRODUCTS_ROW;
var<workgroup> tiles: array<Staged, ENTRIES>;
var<workgroup> handed: array<Handed, PRODUCTS>;

// Rows that matrices take for so many: what is copied and weighted. In them rows past the end repeat the last one; behind them lies
// whatever was there before, which gets into products that nobody reads.
fn whole(rows: u32) -> u32 { return (rows + MATRIX - 1u) / MATRIX * MATRIX; }

// Copies `count` rows of a buffer, from a token on, behind cell `to` of the tiles: those of one head, whose first row starts at
// cell `start`. Past the last row it repeats: finite, and of no weight.
fn copy_rows(buffer: u32, start: u32, token: u32, to: u32, count: u32, lid: u32) {
    let stride = row_stride(buffer);
    for (var i = lid; i < count * (WIDTH / 4u); i += WORKGROUP) {
        let y = i / (WIDTH / 4u); let x = i % (WIDTH / 4u);
        let value = buffer_cell(buffer, start + min(token + y, p.tokens - 1u) * stride + min(x, p.cells - 1u));
        // Two stores and not one of either: halves that are chosen one by one would be unpacked for it.
        if (x < p.cells) { stage(to + y * ROW + x, value); } else { stage(to + y * ROW + x, vec4<f16>()); }
    }
}

// A pair of matrices, side by side, to the products of a strip.
fn hand_over(strip: u32, column: u32, a: MatrixC, b: MatrixC) {
    let at = HANDED * (strip * MATRIX * PRODUCTS_ROW + column / 4u); let next = at + HANDED * (MATRIX / 4u);
    let stride = HANDED * PRODUCTS_ROW;
    coopStoreT(a, &handed[at], stride);
    coopStoreT(b, &handed[next], stride);
}

// Products of own rows with `others` rows of the other side, along the head's width. `group` of the workgroup's subgroups.
fn multiply_rows(group: u32, own_rows: u32, others: u32) {
    let pitch = STAGED * ROW;
    for (var strip = group; strip * MATRIX < own_rows; strip += WORKGROUP / SUBGROUP) {
        let own = strip * MATRIX * pitch;
        for (var j = 0u; j < others; j += 2u * MATRIX) {
            let other = STAGED * OTHER + j * pitch; let next = other + MATRIX * pitch;
            var a = MatrixC(); var b = MatrixC();
            for (var k = 0u; k < WIDTH; k += MATRIX) {
                let at = STAGED * (k / 4u);
                let x = coopLoadT<MatrixA>(&tiles[own + at], pitch);
                a = coopMultiplyAdd(x, coopLoad<MatrixB>(&tiles[other + at], pitch), a);
                b = coopMultiplyAdd(x, coopLoad<MatrixB>(&tiles[next + at], pitch), b);
            }
            hand_over(strip, j, a, b);
        }
    }
}

// Rows of the other side weighted and added up, for the cells of one slice.
fn weigh_rows(group: u32, own_rows: u32, others: u32, slice: u32) {
    let pitch = STAGED * ROW; let weights_pitch = STAGED * WEIGHTS_ROW;
    for (var strip = group; strip * MATRIX < own_rows; strip += WORKGROUP / SUBGROUP) {
        let weights = STAGED * WEIGHTS + strip * MATRIX * weights_pitch;
        for (var column = 0u; column < min(BLOCK, WIDTH - 4u * slice); column += 2u * MATRIX) {
            let other = STAGED * (OTHER + slice + column / 4u); let next = other + STAGED * (MATRIX / 4u);
            var a = MatrixC(); var b = MatrixC();
            for (var k = 0u; k < others; k += MATRIX) {
                let x = coopLoadT<MatrixA>(&tiles[weights + STAGED * (k / 4u)], weights_pitch);
                a = coopMultiplyAdd(x, coopLoadT<MatrixB>(&tiles[other + k * pitch], pitch), a);
                b = coopMultiplyAdd(x, coopLoadT<MatrixB>(&tiles[next + k * pitch], pitch), b);
            }
            hand_over(strip, column, a, b);
        }
    }
}

// One cell of a row of products, and four of an invocation's from `cell` on.
fn product(row: u32, cell: u32) -> vec4<f32> { return handed_cell(row * PRODUCTS_ROW + cell); }
fn products_of(row: u32, cell: u32) -> mat4x4<f32> {
    return mat4x4(product(row, cell), product(row, cell + 2u), product(row, cell + 4u), product(row, cell + 6u));
}

// An invocation's half of the MATRIX cells in a slice of its row; b is not used where there are four.
struct Sums { a: mat4x4<f32>, b: mat4x4<f32> }

// Sums times a factor, plus products. `odd`: 1 for the invocation of the odd cells.
fn grown(sum: Sums, by: f32, row: u32, odd: u32) -> Sums {
    var next = Sums(sum.a * by + products_of(row, odd), sum.b);
    if (MATRIX > 8u) { next.b = sum.b * by + products_of(row, odd + 8u); }
    return next;
}
