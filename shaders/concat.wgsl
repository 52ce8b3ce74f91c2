// Two matrices side by side: y[r,:] = (a[r,:], b[r,:]), a (R, A), b (R, C), y (R, A + C).
//
// One invocation per cell of y. Where A is not a multiple of 4 the columns of b move within their cells, so each of the
// four elements is looked up on its own; their loads fall on the same one or two cells, which the cache serves.
// Cost: no arithmetic, one read and one write per element.

struct Params {
    cells: u32,   // of y
    a_width: u32, // A
    b_width: u32, // C
    a_cells: u32, // of one row of a
    b_cells: u32, // of one row of b
    y_cells: u32, // of one row of y
}

@group(0) @binding(0) var<storage, read> a: array<Stored4>;
@group(0) @binding(1) var<storage, read> b: array<Stored4>;
@group(0) @binding(2) var<storage, read_write> y: array<Stored4>;

override WORKGROUP: u32 = 256u;

fn element(row: u32, column: u32) -> f32 {
    if (column < p.a_width) {
        return unpack4(a[row * p.a_cells + column / 4u])[column % 4u];
    }
    let j = column - p.a_width;
    if (j < p.b_width) {
        return unpack4(b[row * p.b_cells + j / 4u])[j % 4u];
    }
    return 0.0;
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
    let row = i / p.y_cells;
    let column = 4u * (i % p.y_cells);
    y[i] = pack4(vec4<f32>(
        element(row, column),
        element(row, column + 1u),
        element(row, column + 2u),
        element(row, column + 3u),
    ));
}
