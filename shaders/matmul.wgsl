// C[b] = op(A[b]) op(B[b]), then an epilogue (bias, GELU, residual).
//
// op(A) is (M, K), op(B) is (K, N), C is (M, N); with TRANS_A the buffer holds (K, M), with TRANS_B it holds (N, K).
// Strides are in cells (four values). A batch stride of 0 uses one operand for every b, and a row stride of C larger
// than its rows interleaves the batches: that is how one weight per position is applied without a copy.
//
// Work: one invocation owns up to 16 rows x 16 columns of C in registers, as 4x4 matrices whose columns are rows of C.
// Four steps along K at a time: a block of C grows by (four rows of B) x (4x4 of A), so each value loaded is used up to
// 16 times. Rows come from the workgroup, columns from the invocation: all invocations of a group read the same A at
// once, a broadcast. No workgroup memory and no barrier: where a processor plays GPU they cost more than they save.
// Cost: 2 M N K FLOPs; loads M N K (1 / (4 BLOCKS) + 1 / (4 CELLS)) values, most of them from caches; writes M N.

override TRANS_A: bool = false;
override TRANS_B: bool = false;
// BLOCKS, CELLS, WORKGROUP and the tile in registers stand in parts/tile.wgsl.

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

// Four rows of op(A) from `row` on, at the four steps k. Rows past the end repeat others; they are never stored.
fn load_a(base: u32, row: u32, k: vec4<u32>) -> mat4x4<f32> {
    if (TRANS_A) {
        let at = vec4(base + min(row / 4u, p.a_row - 1u)) + min(k, vec4(p.inner - 1u)) * p.a_row;
        return transpose(mat4x4(unpack4(a[at.x]), unpack4(a[at.y]), unpack4(a[at.z]), unpack4(a[at.w])));
    }
    let at = vec4(base + k.x / 4u) + min(vec4(row) + vec4(0u, 1u, 2u, 3u), vec4(p.rows - 1u)) * p.a_row;
    return mat4x4(unpack4(a[at.x]), unpack4(a[at.y]), unpack4(a[at.z]), unpack4(a[at.w]));
}

// The four rows k of op(B) in one cell of columns. Columns past the end repeat others; store_row drops them.
fn load_b(base: u32, cell: u32, k: vec4<u32>) -> mat4x4<f32> {
    if (TRANS_B) {
        let at = vec4(base + k.x / 4u) + min(vec4(4u * cell) + vec4(0u, 1u, 2u, 3u), vec4(p.width - 1u)) * p.b_row;
        return transpose(mat4x4(unpack4(b[at.x]), unpack4(b[at.y]), unpack4(b[at.z]), unpack4(b[at.w])));
    }
    let at = vec4(base + min(cell, p.b_row - 1u)) + min(k, vec4(p.inner - 1u)) * p.b_row;
    let rows = mat4x4(unpack4(b[at.x]), unpack4(b[at.y]), unpack4(b[at.z]), unpack4(b[at.w]));
    if (TRANS_A) {
        // Steps past K: neither operand has zeros there, so one must be given them. Elsewhere the padding of a row has.
        let live = select(vec4(0.0), vec4(1.0), k < vec4(p.inner));
        return mat4x4(rows[0] * live.x, rows[1] * live.y, rows[2] * live.z, rows[3] * live.w);
    }
    return rows;
}

fn store_row(batch: u32, row: u32, cell: u32, sum: vec4<f32>) {
    if (row >= p.rows || 4u * cell >= p.width) { return; }
    // The padding of a row stays zero whatever stood in for the missing columns of B.
    let value = select(vec4(0.0), sum, vec4(4u * cell) + vec4(0u, 1u, 2u, 3u) < vec4(p.width));
    let at = batch * p.c_batch + row * p.c_row + cell;
    c[at] = pack_output4(epilogue(at, batch * p.bias_batch + cell, value));
}

fn store_block(batch: u32, row: u32, cell: u32, sum: mat4x4<f32>) {
    store_row(batch, row, cell, sum[0]);
    store_row(batch, row + 1u, cell, sum[1]);
    store_row(batch, row + 2u, cell, sum[2]);
    store_row(batch, row + 3u, cell, sum[3]);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let group = group_index(wid, count);
    let batch = group / (p.row_tiles * p.column_tiles);
    if (batch >= p.batches) { return; }
    // Row tiles run fastest: neighbours share a panel of B.
    let row = group % p.row_tiles * (4u * BLOCKS);
    let cell = group / p.row_tiles % p.column_tiles * (CELLS * WORKGROUP) + lid;
    let a_base = batch * p.a_batch;
    let b_base = batch * p.b_batch;

    var c0 = Blocks(); var c1 = Blocks(); var c2 = Blocks(); var c3 = Blocks();
    for (var i = 0u; i < p.inner; i += 4u) {
        let k = vec4(i) + vec4(0u, 1u, 2u, 3u);
        let x = Blocks(load_a(a_base, row, k), load_a(a_base, row + 4u, k), load_a(a_base, row + 8u, k),
            load_a(a_base, row + 12u, k));
        c0 = grow(c0, x, load_b(b_base, cell, k));
        if (CELLS > 1u) { c1 = grow(c1, x, load_b(b_base, cell + WORKGROUP, k)); }
        if (CELLS > 2u) { c2 = grow(c2, x, load_b(b_base, cell + 2u * WORKGROUP, k)); }
        if (CELLS > 3u) { c3 = grow(c3, x, load_b(b_base, cell + 3u * WORKGROUP, k)); }
    }
    let blocks = blocks_from(row);
    let columns = columns_from(cell - lid, (p.width + 3u) / 4u);
    for (var column = 0u; column < columns; column++) {
        for (var block = 0u; block < blocks; block++) {
            store_block(batch, row + 4u * block, cell + column * WORKGROUP, c0.r0);
            c0 = turned(c0);
        }
        c0 = c1; c1 = c2; c2 = c3;
    }
}
