// Transposed patch convolution, kernel = stride = p, for p a multiple of 4:
// image[b, c, y p + i, x p + j] = sum over d of t[b,n,d] W[d,c,i,j] + bias[c], n = y (S/p) + x.
// Without a bias it is the gradient of patch_conv's input.
//
// t (B, N, D), W (D, C, p, p), bias (C), image (B, C, S, S). It is a matmul of (B N, D) by (D, C p p) whose result is
// stored where its pixels lie: with p a multiple of 4 four neighbours of a row of W are one cell of the image.
//
// Work: as in matmul, one invocation owns up to 32 tokens x 8 columns (two cells of the image) in registers, as 4x4
// matrices whose columns are tokens. The tokens come from the workgroup: t is loaded for all its invocations at once.
// Cost: 2 B N D C p p FLOPs; reads t and W (mostly from caches), writes the image once.

override BIAS: bool = false;
// BLOCKS, CELLS, WORKGROUP and the tile in registers stand in parts/tile.wgsl.

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

// Where a token lies. Past the end the last one repeats; it is never stored.
fn place(token: u32) -> u32 { return min(token, p.rows - 1u) * ((p.inner + 3u) / 4u); }

fn cell(operand: u32, place: u32, offset: u32) -> vec4<f32> { return unpack4(tokens[place + offset]); }

// The rows 4 k .. 4 k + 3 of W in one cell of columns. Rows past the end repeat the last: t is padded with zeros there.
fn load_weight(column: u32, k: u32) -> mat4x4<f32> {
    let row = min(vec4(4u * k) + vec4(0u, 1u, 2u, 3u), vec4(p.inner - 1u));
    let at = vec4(min(column, p.columns - 1u)) + row * p.columns;
    return mat4x4(unpack4(weight[at.x]), unpack4(weight[at.y]), unpack4(weight[at.z]), unpack4(weight[at.w]));
}

fn store_row(row: u32, column: u32, sum: vec4<f32>) {
    if (row >= p.rows || column >= p.columns) { return; }
    let patch_cells = p.side / 4u;
    let n = row % (p.across * p.down);
    let line = column / patch_cells;  // c p + i
    let y = n / p.across * p.side + line % p.side;
    let x = n % p.across * patch_cells + column % patch_cells;
    let plane = row / (p.across * p.down) * p.channels + line / p.side;
    var value = sum;
    if (BIAS) { value += unpack4(bias[line / p.side / 4u])[line / p.side % 4u]; }
    image[(plane * p.size + y) * (p.size / 4u) + x] = pack4(value);
}

fn store_block(row: u32, column: u32, sum: mat4x4<f32>) {
    store_row(row, column, sum[0]);
    store_row(row + 1u, column, sum[1]);
    store_row(row + 2u, column, sum[2]);
    store_row(row + 3u, column, sum[3]);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let group = group_index(wid, count);
    if (group >= p.row_tiles * p.column_tiles) { return; }
    let row = group % p.row_tiles * (4u * BLOCKS);
    let column = group / p.row_tiles * (CELLS * WORKGROUP) + lid;
    let rows = rows_from(row, lid);
    var sum = Tiles();
    let steps = (p.inner + 3u) / 4u;
    for (var k = 0u; k < steps; k++) {
        sum = grow(sum, rows, k, load_weight(column, k), load_weight(column + WORKGROUP, k));
    }
    let blocks = blocks_from(row);
    let columns = columns_from(column - lid, p.columns);
    for (var j = 0u; j < columns; j++) {
        for (var block = 0u; block < blocks; block++) {
            store_block(row + 4u * block, column + j * WORKGROUP, sum.c0.r0.low);
            sum.c0 = next_block(sum.c0);
        }
        sum.c0 = sum.c1;
    }
}
