// Gradient of patch_conv's weight: dW[d,c,i,j] = sum over (b,n) of dt[b,n,d] image[b, c, y p + i, x p + j].
//
// dt (B, N, D), image (B, C, S, S), dW F32 (D, C, p, p), n = y (S/p) + x. With dt and the image exchanged for the input
// and the output gradient of patch_conv_transposed it is the gradient of that one's weight.
//
// Work: as in matmul, one invocation owns up to 16 rows (d) x 8 weights (two cells of a row of patches) in registers.
// It walks the tokens line by line of the image, four of a line at a time. `parts` > 1 cuts the samples into parts,
// each with its own partial dW (parts, D, C, p, p), summed in order afterwards: more workgroups, the same result on
// every run.
// Cost: 2 B N D C p p FLOPs; reads dt and the image (mostly from caches), writes parts D C p p values.

override ALIGNED: bool = true;  // p is a multiple of 4: every row of a patch is made of whole cells
override BLOCKS: u32 = 4u;     // blocks of four rows per invocation, 1..4
override CELLS: u32 = 2u;      // cells of four columns per invocation, 1..2
override WORKGROUP: u32 = 8u;  // invocations side by side along the columns

struct Params {
    rows: u32,
    columns: u32,
    row_tiles: u32,
    column_tiles: u32,
    parts: u32,
    samples: u32,
    channels: u32,
    size: u32,
    side: u32,
    across: u32,
    down: u32,
    row_cells: u32,
    image_cells: u32,
}

@group(0) @binding(0) var<storage, read> tokens: array<Stored4>;
@group(0) @binding(1) var<storage, read> image: array<Stored4>;
@group(0) @binding(2) var<storage, read_write> weight: array<vec4<f32>>;

// Four pixels of a patch; `offset` counts cells from its start. With a patch width that is no multiple of 4 they lie
// across two cells; what lies beyond the patch is dropped at the end.
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

// Four rows d of dt^T at four tokens.
fn load_tokens(row: u32, token: vec4<u32>) -> mat4x4<f32> {
    let cells = (p.rows + 3u) / 4u;
    let at = vec4(min(row / 4u, cells - 1u)) + token * cells;
    return transpose(mat4x4(unpack4(tokens[at.x]), unpack4(tokens[at.y]), unpack4(tokens[at.z]), unpack4(tokens[at.w])));
}

// The same four weights' pixels at four tokens; tokens past the end of the line count nothing.
fn load_pixels(start: vec4<u32>, offset: u32, live: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(pixels(start.x, offset) * live.x, pixels(start.y, offset) * live.y, pixels(start.z, offset) * live.z,
        pixels(start.w, offset) * live.w);
}

// Where a cell of weights lies in a patch, in cells of the image from the start of the patch.
fn offset_of(cell: u32) -> u32 {
    let patch_cells = (p.side + 3u) / 4u;
    let line = min(cell, p.columns - 1u) / patch_cells;
    return (line / p.side * p.size + line % p.side) * p.row_cells + min(cell, p.columns - 1u) % patch_cells;
}

fn add_row(sum: vec4<f32>, rows: mat4x4<f32>, x: vec4<f32>) -> vec4<f32> {
    return sum + rows[0] * x.x + rows[1] * x.y + rows[2] * x.z + rows[3] * x.w;
}

fn add(sum: mat4x4<f32>, x: mat4x4<f32>, rows: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(add_row(sum[0], rows, x[0]), add_row(sum[1], rows, x[1]), add_row(sum[2], rows, x[2]),
        add_row(sum[3], rows, x[3]));
}

fn store_row(part: u32, row: u32, cell: u32, sum: vec4<f32>) {
    if (row >= p.rows || cell >= p.columns) { return; }
    let j = vec4(cell % ((p.side + 3u) / 4u) * 4u) + vec4(0u, 1u, 2u, 3u);
    weight[(part * p.rows + row) * p.columns + cell] = select(vec4(0.0), sum, j < vec4(p.side));
}

fn store_block(part: u32, row: u32, cell: u32, sum: mat4x4<f32>) {
    store_row(part, row, cell, sum[0]);
    store_row(part, row + 1u, cell, sum[1]);
    store_row(part, row + 2u, cell, sum[2]);
    store_row(part, row + 3u, cell, sum[3]);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let group = group_index(wid, count);
    let part = group / (p.row_tiles * p.column_tiles);
    if (part >= p.parts) { return; }
    let row = group % p.row_tiles * (4u * BLOCKS);
    let left = group / p.row_tiles % p.column_tiles * (CELLS * WORKGROUP) + lid;
    let right = left + WORKGROUP;
    let offset0 = offset_of(left);
    let offset1 = offset_of(right);
    let samples = (p.samples + p.parts - 1u) / p.parts;
    let end = min((part + 1u) * samples, p.samples) * p.down;
    var c00 = mat4x4<f32>(); var c10 = mat4x4<f32>(); var c20 = mat4x4<f32>(); var c30 = mat4x4<f32>();
    var c01 = mat4x4<f32>(); var c11 = mat4x4<f32>(); var c21 = mat4x4<f32>(); var c31 = mat4x4<f32>();
    for (var line = part * samples * p.down; line < end; line++) {
        let first = line / p.down * p.channels * p.size + line % p.down * p.side;
        for (var i = 0u; i < p.across; i += 4u) {
            let x = vec4(i) + vec4(0u, 1u, 2u, 3u);
            let live = select(vec4(0.0), vec4(1.0), x < vec4(p.across));
            let inside = min(x, vec4(p.across - 1u));
            let token = vec4(line * p.across) + inside;
            let start = vec4(first * 4u * p.row_cells) + inside * p.side;
            let a0 = load_tokens(row, token);
            let a1 = load_tokens(row + 4u, token);
            let a2 = load_tokens(row + 8u, token);
            let a3 = load_tokens(row + 12u, token);
            let b0 = load_pixels(start, offset0, live);
            c00 = add(c00, a0, b0);
            if (BLOCKS > 1u) { c10 = add(c10, a1, b0); }
            if (BLOCKS > 2u) { c20 = add(c20, a2, b0); }
            if (BLOCKS > 3u) { c30 = add(c30, a3, b0); }
            if (CELLS > 1u) {
                let b1 = load_pixels(start, offset1, live);
                c01 = add(c01, a0, b1);
                if (BLOCKS > 1u) { c11 = add(c11, a1, b1); }
                if (BLOCKS > 2u) { c21 = add(c21, a2, b1); }
                if (BLOCKS > 3u) { c31 = add(c31, a3, b1); }
            }
        }
    }
    store_block(part, row, left, c00);
    if (BLOCKS > 1u) { store_block(part, row + 4u, left, c10); }
    if (BLOCKS > 2u) { store_block(part, row + 8u, left, c20); }
    if (BLOCKS > 3u) { store_block(part, row + 12u, left, c30); }
    if (CELLS > 1u) {
        store_block(part, row, right, c01);
        if (BLOCKS > 1u) { store_block(part, row + 4u, right, c11); }
        if (BLOCKS > 2u) { store_block(part, row + 8u, right, c21); }
        if (BLOCKS > 3u) { store_block(part, row + 12u, right, c31); }
    }
}
