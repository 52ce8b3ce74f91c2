// Mean over the kept tokens of every sample:
//   y[b, :] = sum over n of mask[b, n] * x[b, n, :] / sum over n of mask[b, n],  0 where nothing is kept
// x (samples, tokens, width) Stored; mask (samples, tokens) f32, every row padded to whole cells; y (samples, width)
// Stored; inverse (samples) f32 = 1 / sum of the mask, or 0, kept for the backward kernel.
//
// Work: one invocation per sample and cell; the mask is the same address for a whole row of invocations.
// Cost: 2 FLOPs per element; reads x.

struct Params {
    samples: u32,
    tokens: u32,
    cells: u32,
    mask_stride: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;
@group(0) @binding(1) var<storage, read> mask: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<Stored4>;
@group(0) @binding(3) var<storage, read_write> inverse: array<f32>;

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
    let sample = index / p.cells;
    if sample >= p.samples {
        return;
    }
    let cell = index - sample * p.cells;
    var sum = vec4<f32>(0.0);
    var kept = f32(p.tokens);
    if MASKED {
        kept = 0.0;
        for (var n = 0u; n < p.tokens; n += 1u) {
            let m = mask[sample * p.mask_stride + n];
            kept += m;
            // What stands in a dropped token must not matter, not even an infinity.
            if m != 0.0 {
                sum += m * unpack4(x[(sample * p.tokens + n) * p.cells + cell]);
            }
        }
    } else {
        for (var n = 0u; n < p.tokens; n += 1u) {
            sum += unpack4(x[(sample * p.tokens + n) * p.cells + cell]);
        }
    }
    let share = select(0.0, 1.0 / kept, kept > 0.0);
    y[index] = pack4(sum * share);

    if cell == 0u {
        inverse[sample] = share;
        if sample + 1u == p.samples {
            for (var s = p.samples; s < ((p.samples + 3u) & ~3u); s += 1u) {
                inverse[s] = 0.0;
            }
        }
    }
}
