// Gradient of y[r,:] = token where mask(r) is not 0, else x[r,:], for x: dx[r,:] = 0 where mask(r) is not 0, else dy[r,:].
// dy and dx (rows, width), mask (B, N) or (B) with B N = rows. (The gradient of token is the sum of the masked rows of
// dy: a column sum with the mask as weights.)
//
// One invocation per cell of four elements.
// Cost: no arithmetic, at most one read and one write per element: bound by memory.

struct Params {
    cells: u32,       // of dy
    row_cells: u32,   // of one row: ceil(width / 4)
    mask_width: u32,  // N
    mask_stride: u32, // N rounded up to a multiple of 4
}

@group(0) @binding(0) var<storage, read> dy: array<Stored4>;
@group(0) @binding(1) var<storage, read> mask: array<f32>;
@group(0) @binding(2) var<storage, read_write> dx: array<Stored4>;

override WORKGROUP: u32 = 256u;

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
    let row = i / p.row_cells;
    if (mask[row / p.mask_width * p.mask_stride + row % p.mask_width] != 0.0) {
        dx[i] = pack4(vec4<f32>(0.0));
    } else {
        dx[i] = dy[i];
    }
}
