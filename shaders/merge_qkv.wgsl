// The gradients of q, k and v back in the columns of their common linear layer:
// y[b,n, (part H + h) d + j] = x_part[b,h,n,j], x_0 = q, x_1 = k, x_2 = v, each (B, H, N, d), y (B, N, 3 H d).
//
// One invocation per cell of y; three inputs in one launch, for a cell of y may hold the end of q and the start of k.
// When the head width d is a multiple of 4, the usual case, whole cells move; otherwise each of the four elements is
// looked up on its own.
// Cost: no arithmetic, one read and one write per element: bound by memory.

struct Params {
    cells: u32,   // of y
    tokens: u32,  // N
    heads: u32,   // H
    width: u32,   // d
    x_cells: u32, // of one row of q, k, v: ceil(d / 4)
    y_cells: u32, // of one row of y: ceil(3 H d / 4)
}

@group(0) @binding(0) var<storage, read> q: array<Stored4>;
@group(0) @binding(1) var<storage, read> k: array<Stored4>;
@group(0) @binding(2) var<storage, read> v: array<Stored4>;
@group(0) @binding(3) var<storage, read_write> y: array<Stored4>;

override WORKGROUP: u32 = 256u;

// One cell of one of the three inputs. `head` counts through all of them: 0..3H.
fn load(token: u32, head: u32, cell: u32) -> vec4<f32> {
    let sample = token / p.tokens;
    let i = ((sample * p.heads + head % p.heads) * p.tokens + token % p.tokens) * p.x_cells + cell;
    switch (head / p.heads) {
        case 0u: {
            return unpack4(q[i]);
        }
        case 1u: {
            return unpack4(k[i]);
        }
        case 2u: {
            return unpack4(v[i]);
        }
        default: { // behind the last column: padding
            return vec4<f32>(0.0);
        }
    }
}

fn element(token: u32, column: u32) -> f32 {
    let j = column % p.width;
    return load(token, column / p.width, j / 4u)[j % 4u];
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
        y[i] = pack4(load(token, cell / p.x_cells, cell % p.x_cells));
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
