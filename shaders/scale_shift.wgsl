// One vector per sample spread over N positions: t[b,n,:] = g[b,:] * scale[n,:] + shift[n,:],
// g (B, D), scale and shift (N, D), t (B, N, D). The decoder makes its tokens from the latent code so: 2 N D weights
// where a full linear layer D -> N D would take N D^2.
//
// One invocation per cell of t, in the order of t: neighbours read neighbours of all three inputs.
// Cost: 2 FLOPs and one write per element of t; the inputs are small and stay in the cache.

struct Params {
    cells: u32,       // of t
    row_cells: u32,   // of one row: ceil(D / 4)
    table_cells: u32, // of scale: N * row_cells
}

@group(0) @binding(0) var<storage, read> g: array<Stored4>;
@group(0) @binding(1) var<storage, read> scale: array<Stored4>;
@group(0) @binding(2) var<storage, read> shift: array<Stored4>;
@group(0) @binding(3) var<storage, read_write> t: array<Stored4>;

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
    let sample = i / p.table_cells;
    let j = i % p.table_cells;
    let column = j % p.row_cells;
    t[i] = pack4(unpack4(g[sample * p.row_cells + column]) * unpack4(scale[j]) + unpack4(shift[j]));
}
