// The end of every loss: one sum over the batch divided by one count.
//   inverse = 1 / (terms * count),  0 when count < least        mean = sum * inverse
// with sum and count the totals over the partial pairs. pairs (rows, 2) f32, one padded cell (sum, count, 0, 0)
// each; mean, inverse () f32. `inverse` is what the backward kernels multiply by.
//
// Work: one workgroup.
// Cost: 2 FLOPs per pair.

struct Params {
    rows: u32,
    // How many elements one count stands for.
    terms: f32,
    // The smallest count that makes a mean.
    least: f32,
}

@group(0) @binding(0) var<storage, read> pairs: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> mean: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> inverse: array<vec4<f32>>;

// Fixed by the reduction over the workgroup.
override WORKGROUP: u32 = 64u;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    if group_index(wid, count) > 0u {
        return;
    }
    var sum = vec2<f32>(0.0);
    var i = lid;
    // Four loads under way at once, then what is left.
    for (; i + 3u * WORKGROUP < p.rows; i += 4u * WORKGROUP) {
        sum += (pairs[i].xy + pairs[i + WORKGROUP].xy)
            + (pairs[i + 2u * WORKGROUP].xy + pairs[i + 3u * WORKGROUP].xy);
    }
    for (; i < p.rows; i += WORKGROUP) {
        sum += pairs[i].xy;
    }
    let total = reduce_sum2(lid, sum);
    if lid == 0u {
        let share = select(0.0, 1.0 / (p.terms * total.y), total.y >= p.least);
        mean[0] = vec4<f32>(total.x * share, 0.0, 0.0, 0.0);
        inverse[0] = vec4<f32>(share, 0.0, 0.0, 0.0);
    }
}
