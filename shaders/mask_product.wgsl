// A mask over tokens joined with a mask over samples: y[b,n] = m[b,n] * present[b]; m and y (B, N), present (B), in f32.
//
// One invocation per cell of four tokens; the padding of m is zero and stays so.
// Cost: 1 FLOP, one read and one write per element.

struct Params {
    cells: u32,     // of m
    row_cells: u32, // of one row: ceil(N / 4)
}

@group(0) @binding(0) var<storage, read> m: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read> present: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<f32>>;

override WORKGROUP: u32 = 64u;

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
    y[i] = m[i] * present[i / p.row_cells];
}
