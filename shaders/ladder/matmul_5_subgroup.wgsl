// Step 5, subgroup: no workgroup memory and no barrier; the lanes of a subgroup hold A between them and hand it round.
//
// C = A B (M, K) (K, N), then an epilogue. Only plain products: the text declares no TRANS_A and no TRANS_B.
// Work: a workgroup of 64 takes 4 x 256 values of C, an invocation 4 rows of one cell. A lane loads one cell of A, of
// row lane % 4; a subgroup of S lanes so holds S steps of K, and every lane reads each of them by a shuffle.
// Cost: 2 M N K FLOPs; loads M N K (1/S of 1/4 + 1/4) values from memory.

override TILE_ROWS: u32 = 4u;
override TILE_COLUMNS: u32 = 256u;

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

// Zeros past the edges.
fn load_a(batch: u32, row: u32, cell: u32) -> vec4<f32> {
    if (row >= p.rows || 4u * cell >= p.inner) { return vec4(0.0); }
    return unpack4(a[batch * p.a_batch + row * p.a_row + cell]);
}
fn load_b(batch: u32, k: u32, cell: u32) -> vec4<f32> {
    if (k >= p.inner || 4u * cell >= p.width) { return vec4(0.0); }
    return unpack4(b[batch * p.b_batch + k * p.b_row + cell]);
}

// Four neighbouring values of a row; nothing past the edges, zeros in the padding.
fn store(batch: u32, row: u32, cell: u32, sum: vec4<f32>) {
    if (row >= p.rows || 4u * cell >= p.width) { return; }
    let at = batch * p.c_batch + row * p.c_row + cell;
    let value = select(vec4(0.0), sum, vec4(4u * cell) + vec4(0u, 1u, 2u, 3u) < vec4(p.width));
    c[at] = pack_output4(epilogue(at, batch * p.bias_batch + cell, value));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32, @builtin(subgroup_size) lanes: u32,
        @builtin(subgroup_invocation_id) lane: u32) {
    let group = group_index(wid, count);
    let batch = group / (p.row_tiles * p.column_tiles);
    if (batch >= p.batches) { return; }
    let row = group % p.row_tiles * TILE_ROWS;
    let cell = group / p.row_tiles % p.column_tiles * (TILE_COLUMNS / 4u) + lid;

    var sum0 = vec4(0.0);
    var sum1 = vec4(0.0);
    var sum2 = vec4(0.0);
    var sum3 = vec4(0.0);
    for (var k = 0u; k < p.inner; k += lanes) {
        let mine = load_a(batch, row + lane % 4u, k / 4u + lane / 4u);
        for (var i = 0u; i < lanes; i += 4u) {
            let a0 = subgroupShuffle(mine, i);
            let a1 = subgroupShuffle(mine, i + 1u);
            let a2 = subgroupShuffle(mine, i + 2u);
            let a3 = subgroupShuffle(mine, i + 3u);
            let b0 = load_b(batch, k + i, cell);
            let b1 = load_b(batch, k + i + 1u, cell);
            let b2 = load_b(batch, k + i + 2u, cell);
            let b3 = load_b(batch, k + i + 3u, cell);
            sum0 += a0.x * b0 + a0.y * b1 + a0.z * b2 + a0.w * b3;
            sum1 += a1.x * b0 + a1.y * b1 + a1.z * b2 + a1.w * b3;
            sum2 += a2.x * b0 + a2.y * b1 + a2.z * b2 + a2.w * b3;
            sum3 += a3.x * b0 + a3.y * b1 + a3.z * b2 + a3.w * b3;
        }
    }
    store(batch, row, cell, sum0);
    store(batch, row + 1u, cell, sum1);
    store(batch, row + 2u, cell, sum2);
    store(batch, row + 3u, cell, sum3);
}
