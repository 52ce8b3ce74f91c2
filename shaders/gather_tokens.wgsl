// Some tokens of every sample, in a given order: y[b,k,:] = x[b, index[b,k], :].
// x (B, N, D), index (B, K), y (B, K, D). An index outside 0..N gives a row of zeros.
//
// One invocation per cell of y. The rows of index are padded like all rows, hence their own stride.
// Cost: no arithmetic, one read and one write per element of y: bound by memory.

struct Params {
    cells: u32,        // of y
    row_cells: u32,    // of one row: ceil(D / 4)
    tokens: u32,       // N
    picks: u32,        // K
    index_stride: u32, // K rounded up to a multiple of 4
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;
@group(0) @binding(1) var<storage, read> index: array<u32>;
@group(0) @binding(2) var<storage, read_write> y: array<Stored4>;

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
    let sample = row / p.picks;
    let token = index[sample * p.index_stride + row % p.picks];
    if (token >= p.tokens) {
        y[i] = pack4(vec4<f32>(0.0));
        return;
    }
    y[i] = x[(sample * p.tokens + token) * p.row_cells + i % p.row_cells];
}
