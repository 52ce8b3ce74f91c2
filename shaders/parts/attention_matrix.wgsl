// What attention's kernels with cooperative matrices share. Products belong to subgroups, which take strips of MATRIX own rows; which lane holds which value of a matrix is the device's secret. So products are handed over in workgroup
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
override GROUPS: u32 = WORKGROUP / SUBGROUP;
override UNITS: u32 = ROWS / MATRIX;  // of work, below: as many as subgroups, or twice as many, or fewer
var<workgroup> tiles: array<Staged, ENTRIES>;
var<workgroup> handed: array<Handed, PRODUCTS>;

// Rows that matrices take for so many: what is copied and weighted. In them rows past the end repeat the last one; behind them lies
// whatever was there before, which gets into products that nobody reads.
fn whole(rows: u32) -> u32 { return (rows + MATRIX - 1u) / MATRIX * MATRIX; }

// Cells of a row and rows that the invocations copy at once: each of them stays in its column.
override SIDE: u32 = WIDTH / 4u;
override DOWN: u32 = WORKGROUP / SIDE;

// Copies `count` rows of a buffer, from a token on, behind cell `to` of the tiles: those of one head, whose first row starts at
// cell `start`. Past the last row it repeats: finite, and of no weight. Four loads are under way at a time.
fn copy_rows(buffer: u32, start: u32, token: u32, to: u32, count: u32, lid: u32) {
    let x = lid % SIDE; let stride = row_stride(buffer); let column = start + min(x, p.cells - 1u);
    if (lid >= SIDE * DOWN) { return; }
    for (var i = lid / SIDE; i < count; i += 4u * DOWN) {
        let rows = min(vec4(token + i) + DOWN * vec4(0u, 1u, 2u, 3u), vec4(p.tokens - 1u)) * stride + column;
        let v0 = buffer_cell(buffer, rows.x); let v1 = buffer_cell(buffer, rows.y);
        let v2 = buffer_cell(buffer, rows.z); let v3 = buffer_cell(buffer, rows.w);
        let at = to + i * ROW + x; let step = DOWN * ROW;
        if (x < p.cells && i + 3u * DOWN < count) {
            stage(at, v0); stage(at + step, v1); stage(at + 2u * step, v2); stage(at + 3u * step, v3);
            continue;
        }
        let n = select(count, 0u, x >= p.cells);
        put_row(at, v0, i, n, count); put_row(at + step, v1, i + DOWN, n, count);
        put_row(at + 2u * step, v2, i + 2u * DOWN, n, count); put_row(at + 3u * step, v3, i + 3u * DOWN, n, count);
    }
}

// A cell of row `i`: as it is below `n`, else zero. Two stores and not one of either: halves that are chosen one by one would be unpacked for it.
fn put_row(at: u32, value: vec4<f16>, i: u32, n: u32, count: u32) {
    if (i < n) { stage(at, value); } else if (i < count) { stage(at, vec4<f16>()); }
}

// Work of subgroups comes in units: two strips of own rows by two matrices of the other side, or of results. Each matrix that is loaded is
// multiplied twice. A unit's strips begin with unit / 2 * 2, its columns with unit % 2 * 2 MATRIX.

// A unit's matrices, in two rows, to where lanes can read them.
fn hand_over(unit: u32, a: MatrixC, b: MatrixC, c: MatrixC, d: MatrixC) {
    let stride = HANDED * PRODUCTS_ROW;
    let first = HANDED * (unit / 2u * (2u * MATRIX * PRODUCTS_ROW) + unit % 2u * (MATRIX / 2u)); let next = first + HANDED * (MATRIX / 4u);
    coopStoreT(a, &handed[first], stride);
    coopStoreT(b, &handed[next], stride);
    let below = first + MATRIX * stride; let last = next + MATRIX * stride;
    coopStoreT(c, &handed[below], stride);
    coopStoreT(d, &handed[last], stride);
}

// Products of own rows with `others` rows of the other side, along the head's width.
fn multiply_rows(first: u32, own_rows: u32, others: u32) {
    let pitch = STAGED * ROW;
    for (var unit = first; unit < UNITS; unit += GROUPS) {
        let row = unit / 2u * (2u * MATRIX); let column = unit % 2u * (2u * MATRIX);
        if (row >= own_rows || column >= others) { continue; }
        let own = row * pitch; let below = own + MATRIX * pitch;
        let other = STAGED * OTHER + column * pitch; let next = other + MATRIX * pitch;
        var a = MatrixC(); var b = MatrixC(); var c = MatrixC(); var d = MatrixC();
        for (var k = 0u; k < WIDTH; k += MATRIX) {
            let step = STAGED * (k / 4u);
            let x = coopLoadT<MatrixA>(&tiles[own + step], pitch); let y = coopLoadT<MatrixA>(&tiles[below + step], pitch);
            let u = coopLoad<MatrixB>(&tiles[other + step], pitch); let v = coopLoad<MatrixB>(&tiles[next + step], pitch);
            a = coopMultiplyAdd(x, u, a); b = coopMultiplyAdd(x, v, b);
            c = coopMultiplyAdd(y, u, c); d = coopMultiplyAdd(y, v, d);
        }
        hand_over(unit, a, b, c, d);
    }
}

// Adds rows of the other side, weighted, to a unit of results that a subgroup holds.
fn weigh_rows(unit: u32, own_rows: u32, others: u32, slice: u32, a: ptr<function, MatrixC>, b: ptr<function, MatrixC>,
              c: ptr<function, MatrixC>, d: ptr<function, MatrixC>) {
    let row = unit / 2u * (2u * MATRIX); let column = unit % 2u * (2u * MATRIX);
    // No condition, for naga takes what it asks to be different from lane to lane, and lets no matrix be loaded behind it.
    let steps = select(others, 0u, unit >= UNITS || row >= own_rows || column >= min(BLOCK, WIDTH - 4u * slice));
    let pitch = STAGED * ROW; let weights_pitch = STAGED * WEIGHTS_ROW;
    let weights = STAGED * WEIGHTS + row * weights_pitch; let below = weights + MATRIX * weights_pitch;
    let other = STAGED * (OTHER + slice + column / 4u); let next = other + STAGED * (MATRIX / 4u);
    for (var k = 0u; k < steps; k += MATRIX) {
        let step = STAGED * (k / 4u);
        let x = coopLoadT<MatrixA>(&tiles[weights + step], weights_pitch); let y = coopLoadT<MatrixA>(&tiles[below + step], weights_pitch);
        let u = coopLoadT<MatrixB>(&tiles[other + k * pitch], pitch); let v = coopLoadT<MatrixB>(&tiles[next + k * pitch], pitch);
        *a = coopMultiplyAdd(x, u, *a); *b = coopMultiplyAdd(x, v, *b);
        *c = coopMultiplyAdd(y, u, *c); *d = coopMultiplyAdd(y, v, *d);
    }
}

// Hands over a unit of results, where it is there.
fn hand_results(unit: u32, own_rows: u32, slice: u32, a: MatrixC, b: MatrixC, c: MatrixC, d: MatrixC) {
    if (unit < UNITS && unit / 2u * (2u * MATRIX) < own_rows && unit % 2u * (2u * MATRIX) < min(BLOCK, WIDTH - 4u * slice)) {
        hand_over(unit, a, b, c, d);
    }
}

// Four cells of a row of products that belong to an invocation, from `cell` on.
fn product(row: u32, cell: u32) -> vec4<f32> { return handed_cell(row * PRODUCTS_ROW + cell); }
fn products_of(row: u32, cell: u32) -> mat4x4<f32> {
    return mat4x4(product(row, cell), product(row, cell + 2u), product(row, cell + 4u), product(row, cell + 6u));
}
