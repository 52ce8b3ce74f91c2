// Step 6, cooperative matrix: a whole subgroup multiplies two matrices of halves that its lanes hold together; sums are f32.
// parts: matrix gelu
//
// C = A B (M, K) (K, N), then an epilogue. Only plain products: the text declares no TRANS_A and no TRANS_B.
// Work: a workgroup is one subgroup and owns 2 x 2 matrices of C, so that each matrix of A and B serves two products; MATRIX,
// 16 or 8, and SUBGROUP are what the device has. A matrix is loaded whole: straight from A or B it would bring the next row's
// values past the end of K, and read beyond the buffer past the last row. So MATRIX steps of K are copied to workgroup
// memory first, with zeros past the edges. Which lane holds which value nobody may know, so the sums go through it too.
// Cost: 2 M N K FLOPs; loads M N K (1/TILE_ROWS + 1/TILE_COLUMNS) halves; two barriers for MATRIX steps.

override TILE_ROWS: u32 = 2u * MATRIX;
override TILE_COLUMNS: u32 = 2u * MATRIX;
override SUBGROUP: u32 = 32u;

struct Params {
    rows: u32,
    width: u32,
    inner: u32,
    row_tiles: u32,
    column_tiles: u32,
    batches: u32,
    a_row: u32,
    a_batch: u32,
    b_row: u32,
    b_batch: u32,
    c_row: u32,
    c_batch: u32,
    bias_batch: u32,
}

@group(0) @binding(0) var<storage, read> a: array<Stored4>;
@group(0) @binding(1) var<storage, read> b: array<Stored4>;
@group(0) @binding(2) var<storage, read_write> c: array<Output4>;

const CELLS = MATRIX / 4u;         // of a row of a matrix
const FIRST_B = 2u * MATRIX * CELLS;  // cell of the tile of B, behind 2 MATRIX rows of A

var<workgroup> tiles: array<Staged, 2u * FIRST_B * STAGED>;
var<workgroup> result: array<f32, MATRIX * MATRIX>;

fn load_a(batch: u32, row: u32, cell: u32) -> vec4<f16> {
    if (row >= p.rows || 4u * cell >= p.inner) { return vec4<f16>(); }
    return a[batch * p.a_batch + row * p.a_row + cell];
}
fn load_b(batch: u32, k: u32, cell: u32) -> vec4<f16> {
    if (k >= p.inner || 4u * cell >= p.width) { return vec4<f16>(); }
    return b[batch * p.b_batch + k * p.b_row + cell];
}

// One matrix of C through workgroup memory; nothing past the edges, zeros in the padding.
fn store(sum: MatrixC, lid: u32, batch: u32, row: u32, cell: u32) {
    let stride = MATRIX;
    workgroupBarrier();
    coopStoreT(sum, &result[0], stride);
    workgroupBarrier();
    for (var i = lid; i < MATRIX * CELLS; i += SUBGROUP) {
        let y = row + i / CELLS;
        let x = cell + i % CELLS;
        if (y >= p.rows || 4u * x >= p.width) { continue; }
        let at = batch * p.c_batch + y * p.c_row + x;
        let four = vec4(result[4u * i], result[4u * i + 1u], result[4u * i + 2u], result[4u * i + 3u]);
        let value = select(vec4(0.0), four, vec4(4u * x) + vec4(0u, 1u, 2u, 3u) < vec4(p.width));
        c[at] = pack_output4(epilogue(at, batch * p.bias_batch + x, value));
    }
}

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let group = wid.x + wid.y * count.x;  // group_index, in place: what follows must be seen to be uniform
    let batch = group / (p.row_tiles * p.column_tiles);
    if (batch >= p.batches) { return; }
    let row = group % p.row_tiles * TILE_ROWS;
    let cell = group / p.row_tiles % p.column_tiles * (TILE_COLUMNS / 4u);

    var c00 = MatrixC(); var c01 = MatrixC(); var c10 = MatrixC(); var c11 = MatrixC();
    for (var k = 0u; k < p.inner; k += MATRIX) {
        workgroupBarrier();
        for (var i = lid; i < FIRST_B; i += SUBGROUP) {
            stage(i, load_a(batch, row + i / CELLS, k / 4u + i % CELLS));
            stage(FIRST_B + i, load_b(batch, k + i / (2u * CELLS), cell + i % (2u * CELLS)));
        }
        workgroupBarrier();
        // Rows of A are one matrix long, those of B two side by side.
        let pitch_a = STAGED * CELLS; let pitch_b = 2u * STAGED * CELLS;
        let a0 = coopLoadT<MatrixA>(&tiles[0], pitch_a);
        let a1 = coopLoadT<MatrixA>(&tiles[MATRIX * pitch_a], pitch_a);
        let b0 = coopLoadT<MatrixB>(&tiles[STAGED * FIRST_B], pitch_b);
        let b1 = coopLoadT<MatrixB>(&tiles[STAGED * FIRST_B + pitch_a], pitch_b);
        c00 = coopMultiplyAdd(a0, b0, c00); c01 = coopMultiplyAdd(a0, b1, c01);
        c10 = coopMultiplyAdd(a1, b0, c10); c11 = coopMultiplyAdd(a1, b1, c11);
    }
    store(c00, lid, batch, row, cell); store(c01, lid, batch, row, cell + CELLS);
    store(c10, lid, batch, row + MATRIX, cell); store(c11, lid, batch, row + MATRIX, cell + CELLS);
}
