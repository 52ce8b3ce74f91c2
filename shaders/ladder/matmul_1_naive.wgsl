// Step 1, naive: one invocation computes four neighbouring values of C and reads all it needs from memory.
//
// C = A B (M, K) (K, N), then an epilogue. Only plain products: the text declares no TRANS_A and no TRANS_B.
// Work: a workgroup of 64 takes 16 rows of 4 cells.
// Cost: 2 M N K FLOPs; each multiply-add of four loads a cell of B and a value of A.

override TILE_ROWS: u32 = 16u;
override TILE_COLUMNS: u32 = 16u;

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

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let group = group_index(wid, count);
    let batch = group / (p.row_tiles * p.column_tiles);
    let row = group % p.row_tiles * TILE_ROWS + lid / 4u;
    let cell = group / p.row_tiles % p.column_tiles * (TILE_COLUMNS / 4u) + lid % 4u;
    if (batch >= p.batches || row >= p.rows || 4u * cell >= p.width) { return; }

    var sum = vec4(0.0);
    for (var k = 0u; k < p.inner; k++) {
        let x = unpack4(a[batch * p.a_batch + row * p.a_row + k / 4u])[k % 4u];
        sum += x * unpack4(b[batch * p.b_batch + k * p.b_row + cell]);
    }
    let at = batch * p.c_batch + row * p.c_row + cell;
    let value = select(vec4(0.0), sum, vec4(4u * cell) + vec4(0u, 1u, 2u, 3u) < vec4(p.width));
    c[at] = pack_output4(epilogue(at, batch * p.bias_batch + cell, value));
}
