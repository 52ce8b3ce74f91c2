// Gradient of the symmetric contrastive loss with respect to the logits, for valid i and j (0 elsewhere):
//   dlogits[i, j] = upstream * inverse / 2
//                   * (exp(logits[i, j] - row_lse[i]) + exp(logits[i, j] - column_lse[j]) - 2 [i == j])
// upstream, inverse () f32; logits, dlogits (samples, samples) Stored; mask, row_lse, column_lse (samples) f32.
//
// Work: one invocation per cell.
// Cost: 6 FLOPs per logit; reads logits, writes dlogits.

struct Params {
    samples: u32,
    cells: u32,
}

@group(0) @binding(0) var<storage, read> upstream: array<f32>;
@group(0) @binding(1) var<storage, read> inverse: array<f32>;
@group(0) @binding(2) var<storage, read> logits: array<Stored4>;
@group(0) @binding(3) var<storage, read> mask: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> row_lse: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> column_lse: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> dlogits: array<Stored4>;

override WORKGROUP: u32 = 64u;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let index = group_index(wid, count) * WORKGROUP + lid;
    let i = index / p.cells;
    if i >= p.samples {
        return;
    }
    let cell = index - i * p.cells;
    var g = vec4<f32>(0.0);
    let scale = 0.5 * upstream[0] * inverse[0];
    if mask[i / 4u][i % 4u] != 0.0 && scale != 0.0 {
        let v = unpack4(logits[index]);
        let own = vec4<u32>(4u * cell) + vec4<u32>(0u, 1u, 2u, 3u) == vec4<u32>(i);
        let hit = select(vec4<f32>(0.0), vec4<f32>(2.0), own);
        g = scale * (exp(v - row_lse[i / 4u][i % 4u]) + exp(v - column_lse[cell]) - hit);
        // The mask is zero in the padding too.
        g = select(g, vec4<f32>(0.0), mask[cell] == vec4<f32>(0.0));
    }
    dlogits[index] = pack4(g);
}
