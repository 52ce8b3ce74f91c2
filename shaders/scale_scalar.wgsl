// y = weight * x, both () f32: the gradient of one term of `weighted_sum`.
//
// Work: one invocation.
// Cost: 1 FLOP.

struct Params {
    weight: f32,
}

@group(0) @binding(0) var<storage, read> x: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;

// One invocation works; a workgroup of 1 says so.
override WORKGROUP: u32 = 1u;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    if group_index(wid, count) + lid > 0u {
        return;
    }
    y[0] = vec4<f32>(p.weight * x[0], 0.0, 0.0, 0.0);
}
