// Gradient of the masked mean: dx[b, n, :] = dy[b, :] * mask[b, n] * inverse[b].
// dy (samples, width) Stored; mask (samples, tokens) f32, every row padded to whole cells; inverse (samples) f32 from
// the forward kernel; dx (samples, tokens, width) Stored.
//
// Work: one invocation per cell of dx.
// Cost: 2 FLOPs per element; writes dx.

struct Params {
    samples: u32,
    tokens: u32,
    cells: u32,
    mask_stride: u32,
}

@group(0) @binding(0) var<storage, read> dy: array<Stored4>;
@group(0) @binding(1) var<storage, read> mask: array<f32>;
@group(0) @binding(2) var<storage, read> inverse: array<f32>;
@group(0) @binding(3) var<storage, read_write> dx: array<Stored4>;

override WORKGROUP: u32 = 64u;
// false: mask is not read, every token is kept.
override MASKED: bool = true;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let index = group_index(wid, count) * WORKGROUP + lid;
    let row = index / p.cells;
    let sample = row / p.tokens;
    if sample >= p.samples {
        return;
    }
    var share = inverse[sample];
    if MASKED {
        share *= mask[sample * p.mask_stride + row - sample * p.tokens];
    }
    dx[index] = pack4(unpack4(dy[sample * p.cells + index - row * p.cells]) * share);
}
