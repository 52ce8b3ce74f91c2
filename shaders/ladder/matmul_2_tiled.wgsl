// Step 2, tiled: a workgroup copies a square of A and one of B to its own memory, and reads them 16 times from there.
//
// C = A B (M, K) (K, N), then an epilogue. Only plain products: the text declares no TRANS_A and no TRANS_B.
// Work: a workgroup of 64 takes 16 x 16 values of C, an invocation four neighbours of a row; 16 steps of K at a time.
// Cost: 2 M N K FLOPs; loads M N K (1/16 + 1/16) values from memory, and two barriers for 16 steps.

override TILE_ROWS: u32 = 16u;
override TILE_COLUMNS: u32 = 16u;
const STEPS = 16u;

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

var<workgroup> tile_a: array<f32, 256>;        // 16 rows of 16 steps
var<workgroup> tile_b: array<vec4<f32>, 64>;   // 16 steps of 4 cells

// A cell of A, a cell of B; zeros past the edges, so that sums need no second look at them.
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
        @builtin(local_invocation_index) lid: u32) {
    let group = group_index(wid, count);
    let batch = group / (p.row_tiles * p.column_tiles);
    if (batch >= p.batches) { return; }
    let y = lid / 4u;
    let x = lid % 4u;
    let row = group % p.row_tiles * TILE_ROWS + y;
    let cell = group / p.row_tiles % p.column_tiles * (TILE_COLUMNS / 4u) + x;

    var sum = vec4(0.0);
    for (var k = 0u; k < p.inner; k += STEPS) {
        let from_a = load_a(batch, row, k / 4u + x);
        tile_a[lid * 4u] = from_a.x;
        tile_a[lid * 4u + 1u] = from_a.y;
        tile_a[lid * 4u + 2u] = from_a.z;
        tile_a[lid * 4u + 3u] = from_a.w;
        tile_b[lid] = load_b(batch, k + y, cell);
        // Nobody reads before all have written ...
        workgroupBarrier();
        for (var i = 0u; i < STEPS; i++) {
            sum += tile_a[y * STEPS + i] * tile_b[i * 4u + x];
        }
        // ... and nobody writes the next squares before all have read these.
        workgroupBarrier();
    }
    store(batch, row, cell, sum);
}
