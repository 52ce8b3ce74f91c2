// Gradients of t[b,n,:] = g[b,:] * scale[n,:] + shift[n,:] for the scale and the shift:
//   dscale[n,:] = sum over b of dt[b,n,:] * g[b,:]        dshift[n,:] = sum over b of dt[b,n,:]
// dt (B, N, D), g (B, D); dscale, dshift (N, D) in f32, for they are sums over the batch.
//
// One invocation per cell of both walks through the B samples: neighbours read neighbouring cells at every step, and the sums
// have one fixed order.
// Cost: 3 FLOPs and one read per element of dt: bound by memory.

struct Params {
    cells: u32,     // of dscale
    row_cells: u32, // of one row: ceil(D / 4)
    samples: u32,   // B
}

@group(0) @binding(0) var<storage, read> dt: array<Stored4>;
@group(0) @binding(1) var<storage, read> g: array<Stored4>;
@group(0) @binding(2) var<storage, read_write> dscale: array<Floats>;
@group(0) @binding(3) var<storage, read_write> dshift: array<Floats>;

override WORKGROUP: u32 = 64u;
// true: both are added to what stands in their places.
override ADDED: bool = false;

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
    var scale = vec4<f32>(0.0);
    var shift = vec4<f32>(0.0);
    for (var b = 0u; b < p.samples; b += 1u) {
        let d = unpack4(dt[b * p.cells + i]);
        scale += d * unpack4(g[b * p.row_cells + column]);
        shift += d;
    }
    if (ADDED) {
        scale += floats(dscale[i]);
        shift += floats(dshift[i]);
    }
    dscale[i] = cell_of_floats(scale);
    dshift[i] = cell_of_floats(shift);
}
