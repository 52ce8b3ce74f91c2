// Step 4, vec4: workgroup memory holds cells of four, each read moves one, and an invocation owns 8 x 4 values.
//
// C = A B (M, K) (K, N), then an epilogue. Only plain products: the text declares no TRANS_A and no TRANS_B.
// Work: a workgroup of 128 takes 64 x 64 values of C, an invocation 8 rows of one cell in named vec4; 16 steps of K
// at a time. A lies in workgroup memory by steps, so that four of its rows are one vec4.
// Cost: 2 M N K FLOPs; loads M N K (1/64 + 1/64) values; three vec4 of workgroup memory serve 32 multiply-adds.

override TILE_ROWS: u32 = 64u;
override TILE_COLUMNS: u32 = 64u;
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

var<workgroup> tile_a: array<vec4<f32>, 256>;  // 16 steps of 16 cells of four rows
var<workgroup> tile_b: array<vec4<f32>, 256>;  // 16 steps of 16 cells of four columns

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

// Four rows of A, transposed: four steps, each a cell of four rows.
fn put_a(batch: u32, row: u32, at: u32, cell: u32, step: u32) {
    let rows = transpose(mat4x4(load_a(batch, row, cell), load_a(batch, row + 1u, cell), load_a(batch, row + 2u, cell),
        load_a(batch, row + 3u, cell)));
    tile_a[step * 16u + at] = rows[0];
    tile_a[(step + 1u) * 16u + at] = rows[1];
    tile_a[(step + 2u) * 16u + at] = rows[2];
    tile_a[(step + 3u) * 16u + at] = rows[3];
}

@compute @workgroup_size(128)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let group = group_index(wid, count);
    let batch = group / (p.row_tiles * p.column_tiles);
    if (batch >= p.batches) { return; }
    let y = lid / 16u;
    let x = lid % 16u;
    let first_row = group % p.row_tiles * TILE_ROWS;
    let first_cell = group / p.row_tiles % p.column_tiles * (TILE_COLUMNS / 4u);

    var sum0 = vec4(0.0); var sum1 = vec4(0.0); var sum2 = vec4(0.0); var sum3 = vec4(0.0);
    var sum4 = vec4(0.0); var sum5 = vec4(0.0); var sum6 = vec4(0.0); var sum7 = vec4(0.0);
    for (var k = 0u; k < p.inner; k += STEPS) {
        // 16 blocks of four rows times four cells of steps: one for each of the first 64 invocations.
        if (lid < 64u) { put_a(batch, first_row + lid / 4u * 4u, lid / 4u, k / 4u + lid % 4u, lid % 4u * 4u); }
        tile_b[lid] = load_b(batch, k + y, first_cell + x);
        tile_b[lid + 128u] = load_b(batch, k + y + 8u, first_cell + x);
        workgroupBarrier();
        for (var i = 0u; i < STEPS; i++) {
            let top = tile_a[i * 16u + 2u * y];
            let bottom = tile_a[i * 16u + 2u * y + 1u];
            let v = tile_b[i * 16u + x];
            sum0 += top.x * v; sum1 += top.y * v; sum2 += top.z * v; sum3 += top.w * v;
            sum4 += bottom.x * v; sum5 += bottom.y * v; sum6 += bottom.z * v; sum7 += bottom.w * v;
        }
        workgroupBarrier();
    }
    let row = first_row + 8u * y;
    let cell = first_cell + x;
    store(batch, row, cell, sum0); store(batch, row + 1u, cell, sum1);
    store(batch, row + 2u, cell, sum2); store(batch, row + 3u, cell, sum3);
    store(batch, row + 4u, cell, sum4); store(batch, row + 5u, cell, sum5);
    store(batch, row + 6u, cell, sum6); store(batch, row + 7u, cell, sum7);
}
