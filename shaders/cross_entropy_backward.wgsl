// Gradient of the mean cross-entropy with respect to the logits, in their place:
//   logits[r, c] = upstream * inverse * mask[r] * (exp(logits[r, c] - lse[r]) - [c == target[r]])
// A matrix of logits is often the largest tensor of a step; nobody needs it after this, so there is no second one.
// upstream, inverse () f32; logits (rows, width) Stored; targets u32 and mask f32 in groups of `group` per
// padded row; lse (rows) f32 from the forward kernel.
//
// Work: ROW_LANES invocations per row, which find its factor once and take its cells in turn.
// Cost: 4 FLOPs per element; reads logits, writes their gradient.

struct Params {
    rows: u32,
    width: u32,
    cells: u32,
    group: u32,
    group_stride: u32,
}

@group(0) @binding(0) var<storage, read> upstream: array<f32>;
@group(0) @binding(1) var<storage, read> inverse: array<f32>;
@group(0) @binding(2) var<storage, read> targets: array<u32>;
@group(0) @binding(3) var<storage, read> mask: array<f32>;
@group(0) @binding(4) var<storage, read> lse: array<f32>;
@group(0) @binding(5) var<storage, read_write> logits: array<Stored4>;

override WORKGROUP: u32 = 64u;
override ROW_LANES: u32 = 64u;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let row = group_index(wid, count) * (WORKGROUP / ROW_LANES) + lid / ROW_LANES;
    if row >= p.rows {
        return;
    }
    let place = (row / p.group) * p.group_stride + row % p.group;
    let label = targets[place];
    let scale = select(0.0, upstream[0] * inverse[0] * mask[place], label < p.width);
    let normaliser = lse[row];
    for (var c = lid % ROW_LANES; c < p.cells; c += ROW_LANES) {
        var g = vec4<f32>(0.0);
        if scale != 0.0 {
            let classes = vec4<u32>(4u * c) + vec4<u32>(0u, 1u, 2u, 3u);
            let hit = select(vec4<f32>(0.0), vec4<f32>(1.0), classes == vec4<u32>(label));
            g = scale * (exp(unpack4(logits[row * p.cells + c]) - normaliser) - hit);
            // The padding is no class.
            g = select(vec4<f32>(0.0), g, classes < vec4<u32>(p.width));
        }
        logits[row * p.cells + c] = pack4(g);
    }
}
