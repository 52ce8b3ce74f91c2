// C[b] = op(A[b]) op(B[b]), then an epilogue (bias, GELU, residual).
//
// op(A) is (M, K), op(B) is (K, N), C is (M, N); with TRANS_A the buffer holds (K, M), with TRANS_B it holds (N, K).
// Strides are in cells (four values). A batch stride of 0 uses one operand for every b, and a row stride of C larger
// than its rows interleaves the batches: that is how one weight per position is applied without a copy.
//
// Work: one invocation owns up to 32 rows x 8 columns of C in registers, as 4x4 matrices whose columns are rows of C.
// Four steps along K at a time: a block of C grows by (four rows of B) x (4x4 of A). Rows come from the workgroup,
// columns from the invocation: A is loaded for all invocations of a group at once (parts/loads_*.wgsl). No workgroup
// memory and no barrier: where a processor plays GPU they cost more than they save.
// Where an epilogue asks for sums of the rows of op(A), A stored transposed, the workgroups of the first columns add them up.
// Cost: 2 M N K FLOPs; loads M N K (1 / (4 BLOCKS) + 1 / (4 CELLS)) values, most of them from caches; writes M N.

override TRANS_A: bool = false;
override TRANS_B: bool = false;
// BLOCKS, CELLS, WORKGROUP and the tile in registers stand in parts/tile.wgsl.

@group(0) @binding(0) var<storage, read> a: array<Stored4>;
@group(0) @binding(1) var<storage, read> b: array<Stored4>;
@group(0) @binding(2) var<storage, read_write> c: array<Output4>;

// Where a row of op(A) lies, or a cell of four rows if A is transposed. Past the end the last repeats; it is never stored.
fn place(i: u32) -> u32 {
    if (TRANS_A) { return min(i, p.a_row - 1u); }
    return min(i, p.rows - 1u) * p.a_row;
}

fn cell(operand: u32, place: u32, offset: u32) -> vec4<f32> { return unpack4(a[place + offset]); }

// The four rows k of op(B) in one cell of columns. Columns past the end repeat others; store_row drops them.
fn load_b(base: u32, column: u32, k: vec4<u32>) -> mat4x4<f32> {
    if (TRANS_B) {
        let at = vec4(base + k.x / 4u) + min(vec4(4u * column) + vec4(0u, 1u, 2u, 3u), vec4(p.width - 1u)) * p.b_row;
        return transpose(mat4x4(unpack4(b[at.x]), unpack4(b[at.y]), unpack4(b[at.z]), unpack4(b[at.w])));
    }
    let at = vec4(base + min(column, p.b_row - 1u)) + min(k, vec4(p.inner - 1u)) * p.b_row;
    let rows = mat4x4(unpack4(b[at.x]), unpack4(b[at.y]), unpack4(b[at.z]), unpack4(b[at.w]));
    if (TRANS_A) {
        // Steps past K: neither operand has zeros there, so one must be given them. Elsewhere the padding of a row has.
        let live = within(k);
        return mat4x4(rows[0] * live.x, rows[1] * live.y, rows[2] * live.z, rows[3] * live.w);
    }
    return rows;
}

// 1 for steps of K, 0 past its end.
fn within(k: vec4<u32>) -> vec4<f32> { return select(vec4(0.0), vec4(1.0), k < vec4(p.inner)); }

// What the rows of op(A) in eight cells come to, four steps more.
fn add_rows(sum: Eight, s: Steps, live: vec4<f32>) -> Eight {
    return Eight(sum.low + live.x * s.x.low + live.y * s.y.low + live.z * s.z.low + live.w * s.w.low,
        sum.high + live.x * s.x.high + live.y * s.y.high + live.z * s.z.high + live.w * s.w.high);
}

// One invocation stores them, its workgroup's first; the padding of A is zero, and so is theirs.
fn store_row_sums(batch: u32, row: u32, blocks: u32, sums: Eight) {
    var left = sums;
    for (var block = 0u; block < blocks; block++) {
        put_row_sums(batch * ((p.rows + 3u) / 4u) + row / 4u + block, left.low[0]);
        let high = left.high;
        left = Eight(mat4x4(left.low[1], left.low[2], left.low[3], high[0]), mat4x4(high[1], high[2], high[3], high[3]));
    }
}

fn store_row(batch: u32, row: u32, column: u32, sum: vec4<f32>) {
    if (row >= p.rows || 4u * column >= p.width) { return; }
    // The padding of a row stays zero whatever stood in for the missing columns of B.
    let value = select(vec4(0.0), sum, vec4(4u * column) + vec4(0u, 1u, 2u, 3u) < vec4(p.width));
    let at = batch * p.c_batch + row * p.c_row + column;
    c[at] = pack_output4(epilogue(at, batch * p.bias_batch + column, value));
}

fn store_block(batch: u32, row: u32, column: u32, sum: mat4x4<f32>) {
    store_row(batch, row, column, sum[0]);
    store_row(batch, row + 1u, column, sum[1]);
    store_row(batch, row + 2u, column, sum[2]);
    store_row(batch, row + 3u, column, sum[3]);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let group = group_index(wid, count);
    let batch = group / (p.row_tiles * p.column_tiles);
    if (batch >= p.batches) { return; }
    // Row tiles run fastest: neighbours share a panel of B.
    let row = group % p.row_tiles * (4u * BLOCKS);
    let column = group / p.row_tiles % p.column_tiles * (CELLS * WORKGROUP) + lid;
    let a_base = batch * p.a_batch;
    let b_base = batch * p.b_batch;
    let rows = rows_from(row, lid);
    let cells = places(row / 4u, lid);
    let first = ROW_SUMS && column == lid;
    var sum = Tiles();
    var sums = Eight();
    var asked = 0u;
    for (var i = 0u; i < p.inner; i += 4u) {
        let k = vec4(i) + vec4(0u, 1u, 2u, 3u);
        let b0 = load_b(b_base, column, k);
        let b1 = load_b(b_base, column + WORKGROUP, k);
        if (TRANS_A) {
            asked |= ask_early(0u, row / 4u, lid, a_base + min(k + 4u, vec4(p.inner - 1u)) * p.a_row);
            let s = steps_at(cells, a_base + min(k, vec4(p.inner - 1u)) * p.a_row);
            sum = grow_turned(sum, s, b0, b1);
            if (first) { sums = add_rows(sums, s, within(k)); }
        } else {
            sum = grow(sum, rows, a_base + i / 4u, b0, b1);
        }
    }
    // What was asked for early counts nothing, but must be used.
    let blocks = blocks_from(row + nothing_of(asked, p.inner));
    let columns = columns_from(column - lid, (p.width + 3u) / 4u);
    if (first && lid == 0u) { store_row_sums(batch, row, blocks, sums); }
    for (var j = 0u; j < columns; j++) {
        for (var block = 0u; block < blocks; block++) {
            store_block(batch, row + 4u * block, column + j * WORKGROUP, sum.c0.r0.low);
            sum.c0 = next_block(sum.c0);
        }
        sum.c0 = sum.c1;
    }
}
