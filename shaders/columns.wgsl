// Some neighbouring columns of a matrix: y[r,j] = x[r, start + j], x (R, W), y (R, K), start + K <= W. The gradient of
// concat: each part gets its own columns back.
//
// One invocation per cell of y. Where start is not a multiple of 4 the columns move within their cells, so each of the
// four elements is looked up on its own; their loads fall on the same one or two cells, which the cache serves.
// Cost: no arithmetic, one read and one write per element of y.

struct Params {
    cells: u32,   // of y
    x_cells: u32, // of one row of x
    y_cells: u32, // of one row of y
    width: u32,   // K
    start: u32,   // first column
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;
@group(0) @binding(1) var<storage, read_write> y: array<Stored4>;

override WORKGROUP: u32 = 256u;

fn element(row: u32, column: u32) -> f32 {
    if (column >= p.width) {
        return 0.0;
    }
    let j = p.start + column;
    return unpack4(x[row * p.x_cells + j / 4u])[j % 4u];
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
