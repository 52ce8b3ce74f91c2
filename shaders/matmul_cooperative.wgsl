// C[b] = op(A[b]) op(B[b]), then an epilogue: halves through the device's cooperative matrices, sums in f32.
// Shapes, strides and padding as in matmul.wgsl; parts/patches.wgsl lets rows lie in images. Needs native halves and subgroups of one size; MATRIX is 16 or 8.
// Work: a subgroup owns 4 x 2 matrices of C, a workgroup ROW_GROUPS x COLUMN_GROUPS subgroups. DEPTH steps along K of both
// operands are copied to workgroup memory as they lie, rows 16 bytes longer than they need be, so that those of a matrix start
// in different banks. The next tile is on its way while this one is multiplied. Sums go through workgroup memory to the epilogue.
// Cost, at 128 x 128 x 32 (MATRIX 16, 8 subgroups of 32): 2 M N K FLOPs. Device memory or cache: 16 KiB for 1,048,576 FLOPs, 64 per byte: at 5 TB/s of
// cache 320 TFLOP/s, a third of an H200's dense peak of 990. Workgroup memory: a subgroup reads 3 KiB for 65,536 FLOPs, 21 per byte: 132 processors with
// 128 bytes a clock at 1.7 GHz feed 600 TFLOP/s. 28 KiB of it, 64 registers of sums. Predicted share of that peak: 20 to 30 %; not measured.

override TRANS_A: bool = false; override TRANS_B: bool = false;
override ROW_GROUPS: u32 = 1u; override COLUMN_GROUPS: u32 = 2u;  // subgroups along the rows and the columns of C
override DEPTH: u32 = 32u;         // steps along K in workgroup memory, a multiple of MATRIX
override SUBGROUP: u32 = 32u;      // invocations of a subgroup; they copy at most 8 cells of each operand
override WORKGROUP: u32 = SUBGROUP * ROW_GROUPS * COLUMN_GROUPS;
// Rows and columns of C in a workgroup.
override LINES_A: u32 = 4u * MATRIX * ROW_GROUPS; override LINES_B: u32 = 2u * MATRIX * COLUMN_GROUPS;
// Cells of the tile of A, entries of both tiles, entries of the results: named, for naga fails on array sizes with no name.
override FIRST_B: u32 = LINES_A * DEPTH / 4u + 2u * max(LINES_A, DEPTH);
override ENTRIES: u32 = STAGED * (FIRST_B + LINES_B * DEPTH / 4u + 2u * max(LINES_B, DEPTH));
override SECOND: bool = max(LINES_A, LINES_B) * DEPTH / 4u > 4u * WORKGROUP;  // more than four cells of a tile to an invocation
override RESULTS: u32 = HANDED * ROW_GROUPS * COLUMN_GROUPS * max(MATRIX * MATRIX / 4u, SUBGROUP);
@group(0) @binding(0) var<storage, read> a: array<Stored4>;
@group(0) @binding(1) var<storage, read> b: array<Stored4>;
@group(0) @binding(2) var<storage, read_write> c: array<Output4>;

// The tile of A, then that of B, as [line][step] or [step][line], two cells of padding to a row.
var<workgroup> tiles: array<Staged, ENTRIES>;
var<workgroup> handed: array<Handed, RESULTS>;
const NOWHERE = 0xffffffffu;
// An invocation copies cells lid + n WORKGROUP of a tile, n below 8: here four of them from n on.
fn cells(lid: u32, n: u32) -> vec4<u32> { return lid + (n + vec4(0u, 1u, 2u, 3u)) * WORKGROUP; }

// Where cells i of a tile of `tile` lines, from `line` and step k on, lie in memory: nowhere past the end of K; past the last
// line others are repeated, they are never stored.
fn places(owner: u32, along_k: bool, i: vec4<u32>, tile: u32, line: u32, lines: u32, k: u32, base: u32, stride: u32) -> vec4<u32> {
    let cell = k / 4u + i % (DEPTH / 4u);
    let step = k + i / (tile / 4u);
    let along = place(PATCHES == owner, base, min(line + i / (DEPTH / 4u), vec4(lines - 1u)), cell, stride);
    let across = place(PATCHES == owner, base, step, min(line / 4u + i % (tile / 4u), vec4((lines - 1u) / 4u)), stride);
    return select(vec4(NOWHERE), select(across, along, along_k), select(step, 4u * cell, along_k) < vec4(p.inner));
}

fn read_a(at: u32) -> vec4<f16> { if (at == NOWHERE) { return vec4<f16>(); } return a[at]; }
fn read_b(at: u32) -> vec4<f16> { if (at == NOWHERE) { return vec4<f16>(); } return b[at]; }

fn load_a(lid: u32, n: u32, base: u32, row: u32, k: u32) -> mat4x4<f16> {
    if (n > 0u && !SECOND) { return mat4x4<f16>(); }
    let i = places(OF_A, !TRANS_A, cells(lid, n), LINES_A, row, p.rows, k, base, p.a_row);
    return mat4x4(read_a(i.x), read_a(i.y), read_a(i.z), read_a(i.w));
}

fn load_b(lid: u32, n: u32, base: u32, column: u32, k: u32) -> mat4x4<f16> {
    if (n > 0u && !SECOND) { return mat4x4<f16>(); }
    let i = places(OF_B, TRANS_B, cells(lid, n), LINES_B, column, p.width, k, base, p.b_row);
    return mat4x4(read_b(i.x), read_b(i.y), read_b(i.z), read_b(i.w));
}

// Puts what `load_a` or `load_b` found for n behind cell `first` of the workgroup's memory.
fn put(along_k: bool, lid: u32, n: u32, tile: u32, first: u32, x: mat4x4<f16>) {
    if (n > 0u && !SECOND) { return; }
    let i = cells(lid, n); let at = first + i + 2u * (i / (select(tile, DEPTH, along_k) / 4u));
    let live = i < vec4(tile * DEPTH / 4u);
    if (live.x) { stage(at.x, x[0]); } if (live.y) { stage(at.y, x[1]); }
    if (live.z) { stage(at.z, x[2]); } if (live.w) { stage(at.w, x[3]); }
}

// Entries of a row of `length` values in workgroup memory, padding included.
fn pitch(length: u32) -> u32 { return STAGED * (length / 4u + 2u); }

fn matrix_a(line: u32, k: u32) -> MatrixA {
    if (TRANS_A) { return coopLoad<MatrixA>(&tiles[k * pitch(LINES_A) + STAGED * (line / 4u)], pitch(LINES_A)); }
    return coopLoadT<MatrixA>(&tiles[line * pitch(DEPTH) + STAGED * (k / 4u)], pitch(DEPTH));
}

fn matrix_b(line: u32, k: u32) -> MatrixB {
    let first = STAGED * FIRST_B;
    if (TRANS_B) { return coopLoad<MatrixB>(&tiles[first + line * pitch(DEPTH) + STAGED * (k / 4u)], pitch(DEPTH)); }
    return coopLoadT<MatrixB>(&tiles[first + k * pitch(LINES_B) + STAGED * (line / 4u)], pitch(LINES_B));
}

// What an invocation has copied of four cells of A, as far as they lie in the tile.
fn seen(lid: u32, n: u32, x: mat4x4<f16>) -> vec4<f32> {
    let live = select(vec4(0.0), vec4(1.0), cells(lid, n) < vec4(LINES_A * DEPTH / 4u));
    return live.x * vec4<f32>(x[0]) + live.y * vec4<f32>(x[1]) + live.z * vec4<f32>(x[2]) + live.w * vec4<f32>(x[3]);
}

// Rows of op(A), A stored transposed: invocations lid, lid + LINES_A / 4, ... have copied the same cell of four of them.
fn store_row_sums(lid: u32, batch: u32, cell: u32, sum: vec4<f32>) {
    hand_cell(lid, sum);
    workgroupBarrier();
    if (lid >= LINES_A / 4u || 4u * cell >= p.rows) { return; }
    var total = sum;
    for (var i = lid + LINES_A / 4u; i < WORKGROUP; i += LINES_A / 4u) { total += handed_cell(i); }
    put_row_sums(batch * ((p.rows + 3u) / 4u) + cell, total);
}

fn store(sum: MatrixC, at: vec2<u32>, batch: u32, row: u32, column: u32) {
    let cell = at.x * (MATRIX * MATRIX / 4u); let first = HANDED * cell; let stride = HANDED * (MATRIX / 4u);
    workgroupBarrier();
    coopStoreT(sum, &handed[first], stride);
    workgroupBarrier();
    for (var i = at.y; i < MATRIX * MATRIX / 4u; i += SUBGROUP) {
        let y = row + i / (MATRIX / 4u); let x = column / 4u + i % (MATRIX / 4u);
        if (y >= p.rows || 4u * x >= p.width) { continue; }
        let value = select(vec4(0.0), handed_cell(cell + i), vec4(4u * x) + vec4(0u, 1u, 2u, 3u) < vec4(p.width));
        let to = place(PATCHES == OF_C, batch * p.c_batch, vec4(y), vec4(x), p.c_row).x;
        c[to] = pack_output4(epilogue(to, batch * p.bias_batch + bias_place(x), value));
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32, @builtin(subgroup_id) group: u32,
        @builtin(subgroup_invocation_id) lane: u32) {
    let tile = wid.x + wid.y * count.x;  // group_index, in place: what follows must be seen to be uniform
    let batch = tile / (p.row_tiles * p.column_tiles);
    if (batch >= p.batches) { return; }
    let row = tile % p.row_tiles * LINES_A; let column = tile / p.row_tiles % p.column_tiles * LINES_B;
    let base = batch * vec2(p.a_batch, p.b_batch);
    let y = group / COLUMN_GROUPS * (4u * MATRIX); let x = group % COLUMN_GROUPS * (2u * MATRIX);
    var c00 = MatrixC(); var c01 = MatrixC(); var c10 = MatrixC(); var c11 = MatrixC();
    var c20 = MatrixC(); var c21 = MatrixC(); var c30 = MatrixC(); var c31 = MatrixC();
    var a0 = load_a(lid, 0u, base.x, row, 0u); var a1 = load_a(lid, 4u, base.x, row, 0u);
    var b0 = load_b(lid, 0u, base.y, column, 0u); var b1 = load_b(lid, 4u, base.y, column, 0u);
    var sums = vec4<f32>();
    for (var k = DEPTH; k < p.inner + DEPTH; k += DEPTH) {
        if (ROW_SUMS && column == 0u) { sums += seen(lid, 0u, a0) + seen(lid, 4u, a1); }
        workgroupBarrier();
        put(!TRANS_A, lid, 0u, LINES_A, 0u, a0); put(!TRANS_A, lid, 4u, LINES_A, 0u, a1);
        put(TRANS_B, lid, 0u, LINES_B, FIRST_B, b0); put(TRANS_B, lid, 4u, LINES_B, FIRST_B, b1);
        workgroupBarrier();
        a0 = load_a(lid, 0u, base.x, row, k); a1 = load_a(lid, 4u, base.x, row, k);
        b0 = load_b(lid, 0u, base.y, column, k); b1 = load_b(lid, 4u, base.y, column, k);
        for (var s = 0u; s < DEPTH; s += MATRIX) {
            let m0 = matrix_b(x, s); let m1 = matrix_b(x + MATRIX, s);
            let n0 = matrix_a(y, s); let n1 = matrix_a(y + MATRIX, s);
            let n2 = matrix_a(y + 2u * MATRIX, s); let n3 = matrix_a(y + 3u * MATRIX, s);
            c00 = coopMultiplyAdd(n0, m0, c00); c01 = coopMultiplyAdd(n0, m1, c01);
            c10 = coopMultiplyAdd(n1, m0, c10); c11 = coopMultiplyAdd(n1, m1, c11);
            c20 = coopMultiplyAdd(n2, m0, c20); c21 = coopMultiplyAdd(n2, m1, c21);
            c30 = coopMultiplyAdd(n3, m0, c30); c31 = coopMultiplyAdd(n3, m1, c31);
        }
    }
    if (ROW_SUMS && column == 0u) { store_row_sums(lid, batch, row / 4u + lid, sums); }
    let at = vec2(group, lane); let y1 = row + y + MATRIX; let y2 = y1 + MATRIX; let y3 = y2 + MATRIX;
    store(c00, at, batch, row + y, column + x); store(c01, at, batch, row + y, column + x + MATRIX);
    store(c10, at, batch, y1, column + x); store(c11, at, batch, y1, column + x + MATRIX);
    store(c20, at, batch, y2, column + x); store(c21, at, batch, y2, column + x + MATRIX);
    store(c30, at, batch, y3, column + x); store(c31, at, batch, y3, column + x + MATRIX);
}
