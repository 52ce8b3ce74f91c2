// Rows of heads at another width: y[r, h b + j] = x[r, h a + j] where j < a, else 0; x (R, H a), y (R, H b). Attention reads heads
// in whole cells, so that heads whose width is no multiple of 4 are padded before it and cut back behind it.
//
// One invocation per cell of y, whose elements are looked up one by one.
// Cost: no arithmetic, one read and one write per element of the narrower tensor: bound by memory.

struct Params {
    cells: u32,   // of y
    x_width: u32, // a
    y_width: u32, // b
    width: u32,   // H b
    x_cells: u32, // of one row of x: ceil(H a / 4)
    y_cells: u32, // of one row of y
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;
@group(0) @binding(1) var<storage, read_write> y: array<Stored4>;

override WORKGROUP: u32 = 256u;

fn element(row: u32, column: u32) -> f32 {
    let j = column % p.y_width;
    if (column >= p.width || j >= p.x_width) { return 0.0; }
    let at = column / p.y_width * p.x_width + j;
    return unpack4(x[row * p.x_cells + at / 4u])[at % 4u];
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let i = group_index(wid, count) * WORKGROUP + lid;
    if (i >= p.cells) { return; }
    let row = i / p.y_cells; let column = i % p.y_cells * 4u;
    y[i] = pack4(vec4(element(row, column), element(row, column + 1u), element(row, column + 2u), element(row, column + 3u)));
}
