// Tokens put back where they came from: y[b,n,:] = sum over k with index[b,k] = n of x[b,k,:], zero where there is none.
// x (B, K, D), index (B, K), y (B, N, D): the gradient of gather_tokens, repeated indices included.
//
// The obvious division, one invocation per cell of x, would need atomic additions as soon as an index repeats. Here one
// invocation owns one cell of y and looks through the K indices: no race, one order, and the cells nobody names are set
// to zero on the way. K is at most a few hundred and the indices lie in the cache.
// Cost: one addition per element of x, K comparisons per cell of y.

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
    let sample = row / p.tokens;
    let token = row % p.tokens;
    let first = sample * p.picks * p.row_cells + i % p.row_cells;
    var sum = vec4<f32>(0.0);
    for (var k = 0u; k < p.picks; k += 1u) {
        if (index[sample * p.index_stride + k] == token) {
            sum += unpack4(x[first + k * p.row_cells]);
        }
    }
    y[i] = pack4(sum);
}
