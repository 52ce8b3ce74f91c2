// The columns of a token cut into attention heads: y[b,h,n,j] = x[b,n, (part H + h) d + j].
// x (B, N, P H d) holds P parts side by side (3 for q, k and v; 1 for the gradient of merge_heads), y (B, H, N, d).
// Afterwards the keys of one head lie together, and attention reads them as one block.
//
// One invocation per cell of y. When the head width d is a multiple of 4, the usual case, whole cells move; otherwise
// each of the four elements is looked up on its own.
// Cost: no arithmetic, one read and one write per element of y: bound by memory.

struct Params {
    cells: u32,   // of y
    tokens: u32,  // N
    heads: u32,   // H
    width: u32,   // d
    part: u32,    // 0..P
    x_cells: u32, // of one row of x
    y_cells: u32, // of one row of y: ceil(d / 4)
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;
@group(0) @binding(1) var<storage, read_write> y: array<Stored4>;

override WORKGROUP: u32 = 256u;

fn element(row: u32, start: u32, j: u32) -> f32 {
    if (j >= p.width) {
        return 0.0;
    }
    let column = start + j;
    return unpack4(x[row * p.x_cells + column / 4u])[column % 4u];
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let i = group_index(wid, count) * WORKGROUP + lid;
    if (i >= p.cells) {
        return;
    }
    let y_row = i / p.y_cells;
    let cell = i % p.y_cells;
    let token = y_row % p.tokens;
    let head = y_row / p.tokens % p.heads;
    let sample = y_row / p.tokens / p.heads;

    let row = sample * p.tokens + token;
    let start = (p.part * p.heads + head) * p.width;
    if (p.width % 4u == 0u) {
        y[i] = x[row * p.x_cells + start / 4u + cell];
        return;
    }
    let j = 4u * cell;
    y[i] = pack4(vec4<f32>(
        element(row, start, j),
        element(row, start, j + 1u),
        element(row, start, j + 2u),
        element(row, start, j + 3u),
    ));
}
