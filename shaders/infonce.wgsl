// The symmetric contrastive loss of matched pairs (van den Oord et al., arXiv 1807.03748; Radford et al., 2103.00020):
//   loss[i] = (row_lse[i] + column_lse[i]) / 2 - logits[i, i]
// where row_lse[i] is the log-sum-exp over the valid j of logits[i, j], column_lse[i] the one of logits[j, i].
// logits (samples, samples) Stored; mask (samples) f32, 1 = valid; row_lse, column_lse (samples) f32, 0 where not
// valid, kept for the backward kernel; pairs (samples, 2) f32, one padded cell (loss, 1, 0, 0) or zeros each.
//
// Work: one workgroup per sample, its row and its column in the same loop and the same reductions.
// Cost: about 8 FLOPs per logit; the column is read with a stride, which is small beside making the logits.

struct Params {
    samples: u32,
    cells: u32,
}

@group(0) @binding(0) var<storage, read> logits: array<Stored4>;
@group(0) @binding(1) var<storage, read> mask: array<f32>;
@group(0) @binding(2) var<storage, read_write> row_lse: array<f32>;
@group(0) @binding(3) var<storage, read_write> column_lse: array<f32>;
@group(0) @binding(4) var<storage, read_write> pairs: array<vec4<f32>>;

// Fixed by the reduction over the workgroup.
override WORKGROUP: u32 = 64u;

fn logit(i: u32, j: u32) -> f32 {
    return unpack4(logits[i * p.cells + j / 4u])[j % 4u];
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let i = group_index(wid, count);
    if i >= p.samples {
        return;
    }
    let valid = mask[i] != 0.0;
    // A sample that is not valid runs over nothing, but takes part in the reductions: barriers need all invocations.
    let others = select(0u, p.samples, valid);

    // (row, column): running maximum, and sum of exp(x - maximum), rescaled when the maximum grows.
    var top = vec2<f32>(LOWEST);
    var sum = vec2<f32>(0.0);
    for (var j = lid; j < others; j += WORKGROUP) {
        if mask[j] != 0.0 {
            let v = vec2<f32>(logit(i, j), logit(j, i));
            let higher = max(top, v);
            sum = sum * exp(top - higher) + exp(v - higher);
            top = higher;
        }
    }
    let highest = vec2<f32>(reduce_max(lid, top.x), reduce_max(lid, top.y));
    let total = reduce_sum2(lid, sum * exp(top - highest));
    let lse = select(vec2<f32>(0.0), highest + log(total), valid);

    if lid == 0u {
        var loss = vec4<f32>(0.0);
        if valid {
            loss = vec4<f32>(0.5 * (lse.x + lse.y) - logit(i, i), 1.0, 0.0, 0.0);
        }
        pairs[i] = loss;
    }
    // The last sample also writes the zero padding of the statistics.
    if lid == 0u || (i + 1u == p.samples && i + lid < ((p.samples + 3u) & ~3u)) {
        row_lse[i + lid] = select(0.0, lse.x, lid == 0u);
        column_lse[i + lid] = select(0.0, lse.y, lid == 0u);
    }
}
