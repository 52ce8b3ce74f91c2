// Step 3, register-blocked: an invocation computes 4 x 4 values, so that each value read serves four multiply-adds.
//
// C = A B (M, K) (K, N), then an epilogue. Only plain products: the text declares no TRANS_A and no TRANS_B.
// Work: a workgroup of 64 takes 32 x 32 values of C, an invocation 4 x 4 of them in registers; 16 steps of K at a time.
// Cost: 2 M N K FLOPs; loads M N K (1/32 + 1/32) values; per multiply-add half a value from workgroup memory.

override TILE_ROWS: u32 = 32u;
override TILE_COLUMNS: u32 = 32u;
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

var<workgroup> tile_a: array<f32, 512>;  // 16 steps of 32 rows
var<workgroup> tile_b: array<f32, 512>;  // 16 steps of 32 columns

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

fn put_a(row: u32, step: u32, value: vec4<f32>) {
    tile_a[step * 32u + row] = value.x;
    tile_a[(step + 1u) * 32u + row] = value.y;
    tile_a[(step + 2u) * 32u + row] = value.z;
    tile_a[(step + 3u) * 32u + row] = value.w;
}

fn put_b(step: u32, column: u32, value: vec4<f32>) {
    let at = step * 32u + column;
    tile_b[at] = value.x;
    tile_b[at + 1u] = value.y;
    tile_b[at + 2u] = value.z;
    tile_b[at + 3u] = value.w;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let group = group_index(wid, count);
    let batch = group / (p.row_tiles * p.column_tiles);
    if (batch >= p.batches) { return; }
    let y = lid / 8u;
    let x = lid % 8u;
    let first_row = group % p.row_tiles * TILE_ROWS;
    let first_cell = group / p.row_tiles % p.column_tiles * (TILE_COLUMNS / 4u);

    var sum0 = vec4(0.0);
    var sum1 = vec4(0.0);
    var sum2 = vec4(0.0);
    var sum3 = vec4(0.0);
    for (var k = 0u; k < p.inner; k += STEPS) {
        // 32 rows of 4 cells, and 16 steps of 8 cells: two of each for every invocation.
        put_a(lid / 4u, lid % 4u * 4u, load_a(batch, first_row + lid / 4u, k / 4u + lid % 4u));
        put_a(lid / 4u + 16u, lid % 4u * 4u, load_a(batch, first_row + lid / 4u + 16u, k / 4u + lid % 4u));
        put_b(y, x * 4u, load_b(batch, k + y, first_cell + x));
        put_b(y + 8u, x * 4u, load_b(batch, k + y + 8u, first_cell + x));
        workgroupBarrier();
        for (var i = 0u; i < STEPS; i++) {
            let at_a = i * 32u + y * 4u;
            let at_b = i * 32u + x * 4u;
            let v = vec4(tile_b[at_b], tile_b[at_b + 1u], tile_b[at_b + 2u], tile_b[at_b + 3u]);
            sum0 += tile_a[at_a] * v;
            sum1 += tile_a[at_a + 1u] * v;
            sum2 += tile_a[at_a + 2u] * v;
            sum3 += tile_a[at_a + 3u] * v;
        }
        workgroupBarrier();
    }
    store(batch, first_row + y * 4u, first_cell + x, sum0);
    store(batch, first_row + y * 4u + 1u, first_cell + x, sum1);
    store(batch, first_row + y * 4u + 2u, first_cell + x, sum2);
    store(batch, first_row + y * 4u + 3u, first_cell + x, sum3);
}
