// C[b] = op(A[b]) op(B[b]), then an epilogue: halves through the device's cooperative matrices, sums in f32.
// Shapes, strides and padding as in matmul.wgsl; parts/patches.wgsl lets rows lie in images. Needs native halves and subgroups of a known size; MATRIX is 16 or 8.
// Work: a subgroup owns 4 x 2 matrices of C, a workgroup ROW_GROUPS x COLUMN_GROUPS subgroups. DEPTH steps along K of both operands are copied to
// workgroup memory as [line][step], a line being a row of op(A) or a column of op(B), in blocks of 4 x 4, turned on the way where memory runs across:
// the order in which every device loads matrices whole. Lines are 16 bytes longer than they need be: those of a matrix start in different banks.
// The next tile is on its way while this one is multiplied. Sums go through workgroup memory to the epilogue, two matrices of a subgroup at a time,
// in TURNS where it cannot hold those of all.
// Cost, at 256 x 128 x 32 (MATRIX 16, 16 subgroups of 32): 2 M N K FLOPs. Device memory or cache: 24 KiB for 2,097,152 FLOPs, 85 per byte, at 5 TB/s of
// cache 430 TFLOP/s of an H200's dense peak of 990 (128 x 128: 64 per byte, 320). Workgroup memory: a subgroup reads 3 KiB for 65,536 FLOPs, 21 per byte:
// 132 processors with 128 bytes a clock at 1.7 GHz feed 600 TFLOP/s. 40 KiB of it, 64 registers of sums. Predicted: 25 to 35 % of that peak; not measured.

override TRANS_A: bool = false; override TRANS_B: bool = false;
override ROW_GROUPS: u32 = 1u; override COLUMN_GROUPS: u32 = 2u;  // subgroups along the rows and the columns of C
override DEPTH: u32 = 32u;         // steps along K in workgroup memory, a multiple of MATRIX
override SUBGROUP: u32 = 32u; override WORKGROUP: u32 = SUBGROUP * ROW_GROUPS * COLUMN_GROUPS;  // invocations; each copies one or two blocks
// Lines of both tiles: rows and columns of C in a workgroup. Cells of a line, cells of the tile of A; blocks of both.
override LINES_A: u32 = 4u * MATRIX * ROW_GROUPS; override LINES_B: u32 = 2u * MATRIX * COLUMN_GROUPS;
override LINE: u32 = DEPTH / 4u + 2u; override FIRST_B: u32 = LINES_A * LINE; override ENTRIES: u32 = STAGED * (LINES_A + LINES_B) * LINE;
override BLOCKS_A: u32 = LINES_A * DEPTH / 16u; override BLOCKS_B: u32 = LINES_B * DEPTH / 16u;
override TWO_A: bool = BLOCKS_A > WORKGROUP; override TWO_B: bool = BLOCKS_B > WORKGROUP;  // whether anybody copies a second one
// Cells of a row of two matrices of sums, side by side: its neighbours start in other banks. Rows from one cell of a lane to its next.
const PAIR_ROW = MATRIX / 2u + 2u; override ROWS_APART: u32 = SUBGROUP / (MATRIX / 2u);
override TURNS: u32 = 1u; override SHARE: u32 = MATRIX / TURNS;  // rows of two matrices that a subgroup finishes: its own, or a part of each neighbour's
override RESULTS: u32 = HANDED * max(ROW_GROUPS * COLUMN_GROUPS / TURNS * MATRIX * PAIR_ROW, BLOCKS_A);
@group(0) @binding(0) var<storage, read> a: array<Stored4>;
@group(0) @binding(1) var<storage, read> b: array<Stored4>;
@group(0) @binding(2) var<storage, read_write> c: array<Output4>;
var<workgroup> tiles: array<Staged, ENTRIES>;  // of A, then of B
var<workgroup> handed: array<Handed, RESULTS>;

// Whether block lid + n WORKGROUP is there: mostly for all invocations alike, and then known when the kernel is compiled.
fn owned(lid: u32, n: u32, blocks: u32) -> bool {
    return (n + 1u) * WORKGROUP <= blocks || n * WORKGROUP < blocks && lid + n * WORKGROUP < blocks;
}

// Block `n` of a tile: (group of four lines, group of four steps). Neighbours follow memory; where that runs across, only two do, and the
// next ones take other steps, for more would meet in a bank when they are put down: a subgroup still reads 32 bytes of each step.
fn block(n: u32, blocks: u32, along_k: bool) -> vec2<u32> {
    let i = min(n, blocks - 1u);  // who has none loads the last one with others and leaves it: a load behind a condition is waited for
    return select(vec2(i % 2u + i / (DEPTH / 2u) * 2u, i / 2u % (DEPTH / 4u)), vec2(i / (DEPTH / 4u), i % (DEPTH / 4u)), along_k);
}

// Block `at` of A or B, k steps on.
fn load_a(at: vec2<u32>, begin: vec4<u32>, row: u32, base: u32, k: u32) -> mat4x4<f16> {
    var i = cells(!TRANS_A, begin, k + 4u * at.y, p.a_row); if (PATCHES == OF_A) { i = patch_cells(!TRANS_A, row + 4u * at.x, p.rows, k + 4u * at.y, base); }
    return mat4x4(a[i.x], a[i.y], a[i.z], a[i.w]);
}
fn load_b(at: vec2<u32>, begin: vec4<u32>, column: u32, base: u32, k: u32) -> mat4x4<f16> {
    var i = cells(TRANS_B, begin, k + 4u * at.y, p.b_row); if (PATCHES == OF_B) { i = patch_cells(TRANS_B, column + 4u * at.x, p.width, k + 4u * at.y, base); }
    return mat4x4(b[i.x], b[i.y], b[i.z], b[i.w]);
}

// Puts four lines of four steps in their place of the tile that begins at cell `first`.
fn put(at: vec2<u32>, first: u32, x: mat4x4<f16>) {
    let i = first + 4u * LINE * at.x + at.y;
    stage(i, x[0]); stage(i + LINE, x[1]); stage(i + 2u * LINE, x[2]); stage(i + 3u * LINE, x[3]);
}

// Steps of A past K are zero, and B's count for nothing. Along K they are whole cells, for rows are padded with zeros.
fn put_a(at: vec2<u32>, x: mat4x4<f16>, k: u32) {
    if (k + DEPTH <= p.inner) { if (TRANS_A) { put(at, 0u, transpose(x)); } else { put(at, 0u, x); } return; }
    let live = vec4(k + 4u * at.y) + FOUR < vec4(p.inner); let z = vec4<f16>();
    if (!TRANS_A) { if (live.x) { put(at, 0u, x); } else { put(at, 0u, mat4x4<f16>()); } return; }
    put(at, 0u, transpose(mat4x4(select(z, x[0], live.x), select(z, x[1], live.y), select(z, x[2], live.z), select(z, x[3], live.w))));
}
fn put_b(at: vec2<u32>, x: mat4x4<f16>) { if (TRANS_B) { put(at, FIRST_B, x); } else { put(at, FIRST_B, transpose(x)); } }

fn matrix_a(line: u32, k: u32) -> MatrixA { return coopLoadT<MatrixA>(&tiles[STAGED * (line * LINE + k / 4u)], STAGED * LINE); }
fn matrix_b(line: u32, k: u32) -> MatrixB { return coopLoad<MatrixB>(&tiles[STAGED * (FIRST_B + line * LINE + k / 4u)], STAGED * LINE); }

// Sum over the steps of a block of A, stored transposed, for its four rows of op(A).
fn seen(x: mat4x4<f16>, at: vec2<u32>, k: u32) -> vec4<f32> {
    let live = select(vec4(0.0), vec4(1.0), vec4(k + 4u * at.y) + FOUR < vec4(p.inner));
    return (live.x * vec4<f32>(x[0]) + live.y * vec4<f32>(x[1])) + (live.z * vec4<f32>(x[2]) + live.w * vec4<f32>(x[3]));
}

// Rows of op(A): the sums of all groups of steps, as blocks left them.
fn store_row_sums(lid: u32, batch: u32, cell: u32) {
    workgroupBarrier();
    if (lid >= LINES_A / 4u || 4u * cell >= p.rows) { return; }
    var total = handed_cell(lid); for (var i = 1u; i < DEPTH / 4u; i += 1u) { total += handed_cell(lid + i * (LINES_A / 4u)); }
    put_row_sums(batch * ((p.rows + 3u) / 4u) + cell, total);
}

// Two matrices of each subgroup; TURNS neighbours share a place and the rows. A lane loads what two cells need, there or not, before it stores one.
fn store(left: MatrixC, right: MatrixC, at: vec2<u32>, batch: u32, row: u32, column: u32) {
    let cell = at.x / TURNS * (MATRIX * PAIR_ROW); let first = HANDED * cell; let next = first + HANDED * (MATRIX / 4u);
    let own = at.x % TURNS; let end = (own + 1u) * SHARE; let z = vec4<f32>();
    for (var turn = 0u; turn < TURNS; turn += 1u) {
        workgroupBarrier();
        if (own == turn) { coopStoreT(left, &handed[first], HANDED * PAIR_ROW); coopStoreT(right, &handed[next], HANDED * PAIR_ROW); }
        workgroupBarrier();
        let begin = corner(at.x - own + turn); let place_x = at.y % (MATRIX / 2u); let x = (column + begin.y) / 4u + place_x;
        let live = vec4(4u * x) + FOUR < vec4(p.width); let near = min(x, (p.width - 1u) / 4u); let bias_cell = batch * p.bias_batch + bias_place(near);
        for (var n = own * SHARE + at.y / (MATRIX / 2u); n < end; n += 2u * ROWS_APART) {
            let line = min(vec2(n, n + ROWS_APART), vec2(end - 1u)); let y = row + begin.x + line;
            let to = place(PATCHES == OF_C, batch * p.c_batch, min(y, vec2(p.rows - 1u)).xyxy, vec4(near), p.c_row);
            let x0 = finish(to.x, bias_cell, select(z, handed_cell(cell + line.x * PAIR_ROW + place_x), live)); var x1 = z;
            if (SHARE > ROWS_APART) { x1 = finish(to.y, bias_cell, select(z, handed_cell(cell + line.y * PAIR_ROW + place_x), live)); }
            if (live.x && y.x < p.rows) { c[to.x] = pack_output4(keep(to.x, x0)); }
            if (live.x && y.y < p.rows && n + ROWS_APART < end) { c[to.y] = pack_output4(keep(to.y, x1)); }
        }
    }
}

// Where a subgroup's part of the tile begins: row and column.
fn corner(group: u32) -> vec2<u32> { return vec2(group / COLUMN_GROUPS * 4u, group % COLUMN_GROUPS * 2u) * MATRIX; }

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>, @builtin(local_invocation_index) lid: u32,
        @builtin(subgroup_id) group: u32, @builtin(subgroup_invocation_id) lane: u32) {
    let tile = wid.x + wid.y * count.x;  // group_index, in place: what follows must be seen to be uniform
    let batch = tile / (p.row_tiles * p.column_tiles); if (batch >= p.batches) { return; }
    let row = tile % p.row_tiles * LINES_A; let column = tile / p.row_tiles % p.column_tiles * LINES_B;
    let base = batch * vec2(p.a_batch, p.b_batch);
    let y = corner(group).x; let x = corner(group).y;
    var c00 = MatrixC(); var c01 = MatrixC(); var c10 = MatrixC(); var c11 = MatrixC();
    var c20 = MatrixC(); var c21 = MatrixC(); var c30 = MatrixC(); var c31 = MatrixC();
    let p0 = block(lid, BLOCKS_A, !TRANS_A); let p1 = block(lid + WORKGROUP, BLOCKS_A, !TRANS_A);
    let q0 = block(lid, BLOCKS_B, TRANS_B); let q1 = block(lid + WORKGROUP, BLOCKS_B, TRANS_B);
    let f0 = beginnings(!TRANS_A, row + 4u * p0.x, p.rows, base.x, p.a_row); let f1 = beginnings(!TRANS_A, row + 4u * p1.x, p.rows, base.x, p.a_row);
    let g0 = beginnings(TRANS_B, column + 4u * q0.x, p.width, base.y, p.b_row); let g1 = beginnings(TRANS_B, column + 4u * q1.x, p.width, base.y, p.b_row);
    var a0 = load_a(p0, f0, row, base.x, 0u); var a1 = mat4x4<f16>(); if (TWO_A) { a1 = load_a(p1, f1, row, base.x, 0u); }
    var b0 = load_b(q0, g0, column, base.y, 0u); var b1 = mat4x4<f16>(); if (TWO_B) { b1 = load_b(q1, g1, column, base.y, 0u); }
    var sum0 = vec4<f32>(); var sum1 = sum0;
    for (var k = 0u; k < p.inner; k += DEPTH) {
        if (ROW_SUMS && column == 0u) { sum0 += seen(a0, p0, k); if (TWO_A) { sum1 += seen(a1, p1, k); } }
        workgroupBarrier();
        if (owned(lid, 0u, BLOCKS_A)) { put_a(p0, a0, k); } if (owned(lid, 1u, BLOCKS_A)) { put_a(p1, a1, k); }
        if (owned(lid, 0u, BLOCKS_B)) { put_b(q0, b0); } if (owned(lid, 1u, BLOCKS_B)) { put_b(q1, b1); }
        workgroupBarrier();
        a0 = load_a(p0, f0, row, base.x, k + DEPTH); if (TWO_A) { a1 = load_a(p1, f1, row, base.x, k + DEPTH); }
        b0 = load_b(q0, g0, column, base.y, k + DEPTH); if (TWO_B) { b1 = load_b(q1, g1, column, base.y, k + DEPTH); }
        for (var s = 0u; s < DEPTH; s += MATRIX) {
            let m0 = matrix_b(x, s); let m1 = matrix_b(x + MATRIX, s); let n0 = matrix_a(y, s); let n1 = matrix_a(y + MATRIX, s);
            let n2 = matrix_a(y + 2u * MATRIX, s); let n3 = matrix_a(y + 3u * MATRIX, s);
            c00 = coopMultiplyAdd(n0, m0, c00); c01 = coopMultiplyAdd(n0, m1, c01);
            c10 = coopMultiplyAdd(n1, m0, c10); c11 = coopMultiplyAdd(n1, m1, c11);
            c20 = coopMultiplyAdd(n2, m0, c20); c21 = coopMultiplyAdd(n2, m1, c21);
            c30 = coopMultiplyAdd(n3, m0, c30); c31 = coopMultiplyAdd(n3, m1, c31);
        }
    }
    if (ROW_SUMS && column == 0u) {
        if (owned(lid, 0u, BLOCKS_A)) { hand_cell(p0.y * (LINES_A / 4u) + p0.x, sum0); }
        if (owned(lid, 1u, BLOCKS_A)) { hand_cell(p1.y * (LINES_A / 4u) + p1.x, sum1); }
        store_row_sums(lid, batch, row / 4u + lid);
    }
    let at = vec2(group, lane); store(c00, c01, at, batch, row, column); store(c10, c11, at, batch, row + MATRIX, column);
    store(c20, c21, at, batch, row + 2u * MATRIX, column); store(c30, c31, at, batch, row + 3u * MATRIX, column);
}
