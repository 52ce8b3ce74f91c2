// Attention heads side by side again: y[b,n, h d + j] = x[b,h,n,j], x (B, H, N, d), y (B, N, H d).
//
// One invocation per cell of y. When the head width d is a multiple of 4, the usual case, whole cells move; otherwise
// each of the four elements is looked up on its own.
// Cost: no arithmetic, one read and one write per element: bound by memory.

struct Params {
    cells: u32,   // of y
    tokens: u32,  // N
    heads: u32,   // H
    width: u32,   // d
    x_cells: u32, // of one row of x: ceil(d / 4)
    y_cells: u32, // of one row of y: ceil(H d / 4)
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;
@group(0) @binding(1) var<storage, read_write> y: array<Stored4>;

override WORKGROUP: u32 = 256u;

// The first cell of the row of x that holds this head of this token.
fn head_row(token: u32, head: u32) -> u32 {
    let sample = token / p.tokens;
    return ((sample * p.heads + head) * p.tokens + token % p.tokens) * p.x_cells;
}

fn element(token: u32, column: u32) -> f32 {
    let head = column / p.width;
    if (head >= p.heads) {
        return 0.0;
    }
    let j = column % p.width;
    return unpack4(x[head_row(token, head) + j / 4u])[j % 4u];
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
    let token = i / p.y_cells;
    let cell = i % p.y_cells;
    if (p.width % 4u == 0u) {
        y[i] = x[head_row(token, cell / p.x_cells) + cell % p.x_cells];
        return;
    }
    let column = 4u * cell;
    y[i] = pack4(vec4<f32>(
        element(token, column),
        element(token, column + 1u),
        element(token, column + 2u),
        element(token, column + 3u),
    ));
}
