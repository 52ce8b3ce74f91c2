// Patch convolution, kernel = stride = p: t[b,n,:] = sum over (c,i,j) of image[b, c, y p + i, x p + j] W[:,c,i,j],
// n = y (S/p) + x, then an epilogue (bias).
//
// image (B, C, S, S), W (D, C, p, p), t (B, N, D) with N = (S/p)^2. It is a matmul of (B N, C p p) by (C p p, D) whose
// cell operand is read from the image by index arithmetic: no copy of the patches is written.
//
// Work: as in matmul, one invocation owns up to 32 tokens x 8 columns of t in registers, as 4x4 matrices whose columns
// are tokens. The tokens come from the workgroup: pixels are loaded for all its invocations at once.
// Cost: 2 B N D C p p FLOPs; reads the image and W (mostly from caches), writes B N D values.

override ALIGNED: bool = true;  // p is a multiple of 4: every row of a patch is made of whole cells
// BLOCKS, CELLS, WORKGROUP and the tile in registers stand in parts/tile.wgsl.

struct Params {
    rows: u32,
    width: u32,
    row_tiles: u32,
    column_tiles: u32,
    channels: u32,
    size: u32,
    side: u32,
    across: u32,
    down: u32,
    row_cells: u32,
    image_cells: u32,
}

@group(0) @binding(0) var<storage, read> image: array<Stored4>;
@group(0) @binding(1) var<storage, read> weight: array<Stored4>;
@group(0) @binding(2) var<storage, read_write> c: array<Output4>;  // t: the results of all products are called c

// Element of the image where the patch of a token starts, in storage order (rows of 4 row_cells elements).
fn patch_start(token: u32) -> u32 {
    let n = token % (p.across * p.down);
    let line = token / (p.across * p.down) * p.channels * p.size + n / p.across * p.side;
    return line * (4u * p.row_cells) + n % p.across * p.side;
}

// Four pixels of a patch; `offset` counts cells from its start. With a patch width that is no multiple of 4 they lie
// across two cells; what lies beyond the patch meets a weight of zero.
fn pixels(start: u32, offset: u32) -> vec4<f32> {
    let at = start / 4u + offset;
    let low = unpack4(image[at]);
    if (ALIGNED) { return low; }
    let high = unpack4(image[min(at + 1u, p.image_cells - 1u)]);
    // Chosen without branches: some drivers take minutes to compile sixteen copies of a switch.
    let shift = start % 4u;
    let near = select(low, vec4(low.yzw, high.x), shift == 1u);
    let far = select(vec4(low.zw, high.xy), vec4(low.w, high.xyz), shift == 3u);
    return select(near, far, shift > 1u);
}

// Where a token's patch starts. Past the end the last one repeats; it is never stored.
fn place(token: u32) -> u32 { return patch_start(min(token, p.rows - 1u)); }

fn cell(operand: u32, place: u32, offset: u32) -> vec4<f32> { return pixels(place, offset); }

// Where the four columns of t in one cell begin in W.
fn weight_rows(column: u32) -> vec4<u32> {
    let row_cells = p.channels * p.side * ((p.side + 3u) / 4u);
    return min(vec4(4u * column) + vec4(0u, 1u, 2u, 3u), vec4(p.width - 1u)) * row_cells;
}

// Four rows of W^T at the four weights of one cell.
fn load_weight(at: vec4<u32>) -> mat4x4<f32> {
    return transpose(mat4x4(unpack4(weight[at.x]), unpack4(weight[at.y]), unpack4(weight[at.z]), unpack4(weight[at.w])));
}

fn store_row(row: u32, column: u32, sum: vec4<f32>) {
    if (row >= p.rows || 4u * column >= p.width) { return; }
    let value = select(vec4(0.0), sum, vec4(4u * column) + vec4(0u, 1u, 2u, 3u) < vec4(p.width));
    let at = row * ((p.width + 3u) / 4u) + column;
    c[at] = pack_output4(epilogue(at, column, value));
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
    let w0 = weight_rows(column);
    let w1 = weight_rows(column + WORKGROUP);
    var k = 0u;
    for (var c = 0u; c < p.channels; c++) {
        for (var i = 0u; i < p.side; i++) {
            let first = (c * p.size + i) * p.row_cells;
            for (var j = 0u; j < (p.side + 3u) / 4u; j++) {
                sum = grow(sum, rows, first + j, load_weight(w0 + k), load_weight(w1 + k));
                k += 1u;
            }
        }
    }
    let blocks = blocks_from(row);
    let columns = columns_from(column - lid, (p.width + 3u) / 4u);
    for (var j = 0u; j < columns; j++) {
        for (var block = 0u; block < blocks; block++) {
            store_block(row + 4u * block, column + j * WORKGROUP, sum.c0.r0.low);
            sum.c0 = next_block(sum.c0);
        }
        sum.c0 = sum.c1;
    }
}
