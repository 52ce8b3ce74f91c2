// Masked rows become one learned vector: y[r,:] = token where mask(r) is not 0, else x[r,:].
// x and y (rows, width), token (width), mask (B, N) or (B) of 0 and 1 with B N = rows: mask tokens in the place of image
// patches, the absent vector in the place of a missing modality.
//
// One invocation per cell of four elements. The mask is padded at the end of every row of N, hence its own stride.
// Cost: no arithmetic, at most one read and one write per element: bound by memory.

struct Params {
    cells: u32,       // of x
    row_cells: u32,   // of one row: ceil(width / 4)
    mask_width: u32,  // N
    mask_stride: u32, // N rounded up to a multiple of 4
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;
@group(0) @binding(1) var<storage, read> mask: array<f32>;
@group(0) @binding(2) var<storage, read> token: array<Stored4>;
@group(0) @binding(3) var<storage, read_write> y: array<Stored4>;

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
    // A branch, not a select: what stands in a masked row is not even read, so it may be anything.
    if (mask[row / p.mask_width * p.mask_stride + row % p.mask_width] != 0.0) {
        y[i] = token[i % p.row_cells];
    } else {
        y[i] = x[i];
    }
}
