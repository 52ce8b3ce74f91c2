// Transposed patch convolution, kernel = stride = p, for p a multiple of 4:
// image[b, c, y p + i, x p + j] = sum over d of t[b,n,d] W[d,c,i,j] + bias[c], n = y (S/p) + x.
// Without a bias it is the gradient of patch_conv's input.
//
// t (B, N, D), W (D, C, p, p), bias (C), image (B, C, S, S). It is a matmul of (B N, D) by (D, C p p) whose result is
// stored where its pixels lie: with p a multiple of 4 four neighbours of a row of W are one cell of the image.
//
// Work: as in matmul, one invocation owns up to 16 tokens x 8 columns (two cells of the image each) in registers, as
// 4x4 matrices whose columns are tokens. The tokens come from the workgroup: all its invocations read the same t.
// Cost: 2 B N D C p p FLOPs; reads t and W (mostly from caches), writes the image once.

override BIAS: bool = false;
override BLOCKS: u32 = 4u;     // blocks of four rows per invocation, 1..4
override CELLS: u32 = 2u;      // cells of four columns per invocation, 1..2
override WORKGROUP: u32 = 8u;  // invocations side by side along the columns

struct Params {
    rows: u32,
    columns: u32,
    inner: u32,
    row_tiles: u32,
    column_tiles: u32,
    channels: u32,
    size: u32,
    side: u32,
    across: u32,
    down: u32,
}

@group(0) @binding(0) var<storage, read> tokens: array<Stored4>;
@group(0) @binding(1) var<storage, read> weight: array<Stored4>;
@group(0) @binding(2) var<storage, read> bias: array<Stored4>;
@group(0) @binding(3) var<storage, read_write> image: array<Stored4>;

// Four tokens from `row` on at the four steps of cell k. Tokens past the end repeat the last; they are never stored.
fn load_tokens(row: u32, k: u32) -> mat4x4<f32> {
    let at = vec4(k) + min(vec4(row) + vec4(0u, 1u, 2u, 3u), vec4(p.rows - 1u)) * ((p.inner + 3u) / 4u);
    return mat4x4(unpack4(tokens[at.x]), unpack4(tokens[at.y]), unpack4(tokens[at.z]), unpack4(tokens[at.w]));
}

// The rows 4 k .. 4 k + 3 of W in one cell of columns. Rows past the end repeat the last: t is padded with zeros there.
fn load_weight(cell: u32, k: u32) -> mat4x4<f32> {
    let row = min(vec4(4u * k) + vec4(0u, 1u, 2u, 3u), vec4(p.inner - 1u));
    let at = vec4(min(cell, p.columns - 1u)) + row * p.columns;
    return mat4x4(unpack4(weight[at.x]), unpack4(weight[at.y]), unpack4(weight[at.z]), unpack4(weight[at.w]));
}

fn add_row(sum: vec4<f32>, rows: mat4x4<f32>, x: vec4<f32>) -> vec4<f32> {
    return sum + rows[0] * x.x + rows[1] * x.y + rows[2] * x.z + rows[3] * x.w;
}

fn add(sum: mat4x4<f32>, x: mat4x4<f32>, rows: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(add_row(sum[0], rows, x[0]), add_row(sum[1], rows, x[1]), add_row(sum[2], rows, x[2]),
        add_row(sum[3], rows, x[3]));
}

fn store_row(row: u32, cell: u32, sum: vec4<f32>) {
    if (row >= p.rows || cell >= p.columns) { return; }
    let patch_cells = p.side / 4u;
    let n = row % (p.across * p.down);
    let line = cell / patch_cells;  // c p + i
    let y = n / p.across * p.side + line % p.side;
    let x = n % p.across * patch_cells + cell % patch_cells;
    let plane = row / (p.across * p.down) * p.channels + line / p.side;
    var value = sum;
    if (BIAS) { value += unpack4(bias[line / p.side / 4u])[line / p.side % 4u]; }
    image[(plane * p.size + y) * (p.size / 4u) + x] = pack4(value);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let group = group_index(wid, count);
    if (group >= p.row_tiles * p.column_tiles) { return; }
    let row = group % p.row_tiles * (4u * BLOCKS);
    let left = group / p.row_tiles * (CELLS * WORKGROUP) + lid;
    let right = left + WORKGROUP;
    var c00 = mat4x4<f32>(); var c10 = mat4x4<f32>(); var c20 = mat4x4<f32>(); var c30 = mat4x4<f32>();
    var c01 = mat4x4<f32>(); var c11 = mat4x4<f32>(); var c21 = mat4x4<f32>(); var c31 = mat4x4<f32>();
    let steps = (p.inner + 3u) / 4u;
    for (var k = 0u; k < steps; k++) {
        let a0 = load_tokens(row, k);
        let a1 = load_tokens(row + 4u, k);
        let a2 = load_tokens(row + 8u, k);
        let a3 = load_tokens(row + 12u, k);
        let b0 = load_weight(left, k);
        c00 = add(c00, a0, b0);
        if (BLOCKS > 1u) { c10 = add(c10, a1, b0); }
        if (BLOCKS > 2u) { c20 = add(c20, a2, b0); }
        if (BLOCKS > 3u) { c30 = add(c30, a3, b0); }
        if (CELLS > 1u) {
            let b1 = load_weight(right, k);
            c01 = add(c01, a0, b1);
            if (BLOCKS > 1u) { c11 = add(c11, a1, b1); }
            if (BLOCKS > 2u) { c21 = add(c21, a2, b1); }
            if (BLOCKS > 3u) { c31 = add(c31, a3, b1); }
        }
    }
    // Indexing registers is slow, but this end runs once, and one copy of it compiles faster than thirty-two.
    var done = array<mat4x4<f32>, 8>(c00, c10, c20, c30, c01, c11, c21, c31);
    for (var r = 0u; r < 4u * BLOCKS; r++) {
        for (var column = 0u; column < CELLS; column++) {
            store_row(row + r, left + column * WORKGROUP, done[4u * column + r / 4u][r % 4u]);
        }
    }
}
