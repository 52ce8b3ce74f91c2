// Gradient of t[b,n,:] = g[b,:] * scale[n,:] + shift[n,:] for the scale: dscale[n,:] = sum over b of dt[b,n,:] * g[b,:].
// dt (B, N, D), g (B, D), dscale (N, D) in f32, for it is a sum over the batch.
//
// One invocation per cell of dscale walks through the B samples: neighbours read neighbouring cells at every step, and
// the sum has one fixed order. (The gradient of shift is a plain column sum of dt.)
// Cost: 2 FLOPs and one read per element of dt: bound by memory.

struct Params {
    cells: u32,     // of dscale
    row_cells: u32, // of one row: ceil(D / 4)
    samples: u32,   // B
}

@group(0) @binding(0) var<storage, read> dt: array<Stored4>;
@group(0) @binding(1) var<storage, read> g: array<Stored4>;
@group(0) @binding(2) var<storage, read_write> dscale: array<vec4<f32>>;

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
    let column = i % p.row_cells;
    var sum = vec4<f32>(0.0);
    for (var b = 0u; b < p.samples; b += 1u) {
        sum += unpack4(dt[b * p.cells + i]) * unpack4(g[b * p.row_cells + column]);
    }
    dscale[i] = sum;
}
