// Gradient of patch_conv's weight: dW[d,c,i,j] = sum over (b,n) of dt[b,n,d] image[b, c, y p + i, x p + j].
//
// dt (B, N, D), image (B, C, S, S), dW F32 (D, C, p, p), n = y (S/p) + x. With dt and the image exchanged for the input
// and the output gradient of patch_conv_transposed it is the gradient of that one's weight.
//
// Work: as in matmul, one invocation owns up to 32 rows (d) x 8 weights (two cells of rows of patches) in registers, and
// walks the tokens four at a time. `parts` > 1 cuts the samples into parts, each with its own partial dW
// (parts, D, C, p, p), summed in order afterwards: more workgroups, the same result on every run.
// Cost: 2 B N D C p p FLOPs; reads dt and the image (mostly from caches), writes parts D C p p values.

override ALIGNED: bool = true;  // p is a multiple of 4: every row of a patch is made of whole cells
// BLOCKS, CELLS, WORKGROUP and the tile in registers stand in parts/tile.wgsl.

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
@group(0) @binding(2) var<storage, read_write> weight: array<Floats>;

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

// A token's place (x, y, sample); the next one without a division, which processors that play GPU do lane by lane.
fn next(place: vec3<u32>) -> vec3<u32> {
    let right = place.x + 1u < p.across;
    let below = place.y + 1u < p.down;
    let fallen = select(vec3(0u, 0u, place.z + 1u), vec3(0u, place.y + 1u, place.z), below);
    return select(fallen, vec3(place.x + 1u, place.yz), right);
}

// Element of the image where the patch of a token starts, in storage order (rows of 4 row_cells elements).
fn patch_start(place: vec3<u32>) -> u32 {
    return (place.z * p.channels * p.size + place.y * p.side) * (4u * p.row_cells) + place.x * p.side;
}

// Where a cell of four rows d lies in a token. Past the end the last one repeats; it is never stored.
fn place(i: u32) -> u32 { return min(i, (p.rows + 3u) / 4u - 1u); }

fn cell(operand: u32, place: u32, offset: u32) -> vec4<f32> { return unpack4(tokens[place + offset]); }

// The same four weights' pixels at four tokens; tokens past the end of the line count nothing.
fn load_pixels(start: vec4<u32>, offset: u32, live: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(pixels(start.x, offset) * live.x, pixels(start.y, offset) * live.y, pixels(start.z, offset) * live.z,
        pixels(start.w, offset) * live.w);
}

// Where a cell of weights lies in a patch, in cells of the image from the start of the patch.
fn offset_of(column: u32) -> u32 {
    let patch_cells = (p.side + 3u) / 4u;
    let line = min(column, p.columns - 1u) / patch_cells;
    return (line / p.side * p.size + line % p.side) * p.row_cells + min(column, p.columns - 1u) % patch_cells;
}

fn store_row(part: u32, row: u32, column: u32, sum: vec4<f32>) {
    if (row >= p.rows || column >= p.columns) { return; }
    let j = vec4(column % ((p.side + 3u) / 4u) * 4u) + vec4(0u, 1u, 2u, 3u);
    let value = select(vec4(0.0), sum, j < vec4(p.side));
    weight[(part * p.rows + row) * p.columns + column] = cell_of_floats(value);
}

fn store_block(part: u32, row: u32, column: u32, sum: mat4x4<f32>) {
    store_row(part, row, column, sum[0]);
    store_row(part, row + 1u, column, sum[1]);
    store_row(part, row + 2u, column, sum[2]);
    store_row(part, row + 3u, column, sum[3]);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let group = group_index(wid, count);
    let part = group / (p.row_tiles * p.column_tiles);
    if (part >= p.parts) { return; }
    let row = group % p.row_tiles * (4u * BLOCKS);
    let column = group / p.row_tiles % p.column_tiles * (CELLS * WORKGROUP) + lid;
    let offset0 = offset_of(column);
    let offset1 = offset_of(column + WORKGROUP);
    let cells = places(row / 4u, lid);
    let samples = (p.samples + p.parts - 1u) / p.parts;
    let end = min((part + 1u) * samples, p.samples) * p.down * p.across;
    var here = vec3(0u, 0u, part * samples);
    var sum = Tiles();
    var asked = 0u;
    for (var i = part * samples * p.down * p.across; i < end; i += 4u) {
        let second = next(here); let third = next(second); let fourth = next(third);
        let inside = vec4(i) + vec4(0u, 1u, 2u, 3u) < vec4(end);
        let live = select(vec4(0.0), vec4(1.0), inside);
        let token = select(vec4(i), vec4(i) + vec4(0u, 1u, 2u, 3u), inside);
        let start = select(vec4(0u), vec4(patch_start(here), patch_start(second), patch_start(third),
            patch_start(fourth)), inside);
        here = next(fourth);
        asked |= ask_early(0u, row / 4u, lid, min(token + 4u, vec4(end - 1u)) * ((p.rows + 3u) / 4u));
        sum = grow_turned(sum, steps_at(cells, token * ((p.rows + 3u) / 4u)), load_pixels(start, offset0, live),
            load_pixels(start, offset1, live));
    }
    // What was asked for early counts nothing, but must be used.
    let blocks = blocks_from(row + nothing_of(asked, p.rows));
    let columns = columns_from(column - lid, p.columns);
    for (var j = 0u; j < columns; j++) {
        for (var block = 0u; block < blocks; block++) {
            store_block(part, row + 4u * block, column + j * WORKGROUP, sum.c0.r0.low);
            sum.c0 = next_block(sum.c0);
        }
        sum.c0 = sum.c1;
    }
}
