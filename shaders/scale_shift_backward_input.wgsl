// Gradient of t[b,n,:] = g[b,:] * scale[n,:] + shift[n,:] for the input: dg[b,:] = sum over n of dt[b,n,:] * scale[n,:].
// dt (B, N, D), scale (N, D), dg (B, D).
//
// One invocation per cell of dg walks down the N positions: neighbours read neighbouring cells at every step, and the
// sum has one fixed order. The walk is cut into four named sums so that four loads are under way at once.
// Cost: 2 FLOPs and one read per element of dt: bound by memory.

struct Params {
    cells: u32,     // of dg
    row_cells: u32, // of one row: ceil(D / 4)
    positions: u32, // N
}

@group(0) @binding(0) var<storage, read> dt: array<Stored4>;
@group(0) @binding(1) var<storage, read> scale: array<Stored4>;
@group(0) @binding(2) var<storage, read_write> dg: array<Stored4>;

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
    let first = (i / p.row_cells) * p.positions * p.row_cells + column;
    var sum0 = vec4<f32>(0.0);
    var sum1 = vec4<f32>(0.0);
    var sum2 = vec4<f32>(0.0);
    var sum3 = vec4<f32>(0.0);
    var n = 0u;
    for (; n + 3u < p.positions; n += 4u) {
        let j = n * p.row_cells;
        let k = j + p.row_cells;
        let l = k + p.row_cells;
        let m = l + p.row_cells;
        sum0 += unpack4(dt[first + j]) * unpack4(scale[column + j]);
        sum1 += unpack4(dt[first + k]) * unpack4(scale[column + k]);
        sum2 += unpack4(dt[first + l]) * unpack4(scale[column + l]);
        sum3 += unpack4(dt[first + m]) * unpack4(scale[column + m]);
    }
    for (; n < p.positions; n += 1u) {
        let j = n * p.row_cells;
        sum0 += unpack4(dt[first + j]) * unpack4(scale[column + j]);
    }
    dg[i] = pack4((sum0 + sum1) + (sum2 + sum3));
}
