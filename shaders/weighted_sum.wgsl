// The total loss: y = wa * a + wb * b + wc * c + wd * d, of the first `terms` scalars. All () f32.
// The gradient of each scalar is its weight times the upstream gradient: `scale_scalar`.
//
// Work: one invocation; it saves a read-back, not time.
// Cost: 2 FLOPs per term.

struct Params {
    terms: u32,
    wa: f32,
    wb: f32,
    wc: f32,
    wd: f32,
}

@group(0) @binding(0) var<storage, read> a: array<f32>;
@group(0) @binding(1) var<storage, read> b: array<f32>;
@group(0) @binding(2) var<storage, read> c: array<f32>;
@group(0) @binding(3) var<storage, read> d: array<f32>;
@group(0) @binding(4) var<storage, read_write> y: array<vec4<f32>>;

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
    // A scalar beyond `terms` is bound but never written: it must not be read either.
    var sum = p.wa * a[0];
    if p.terms > 1u {
        sum += p.wb * b[0];
    }
    if p.terms > 2u {
        sum += p.wc * c[0];
    }
    if p.terms > 3u {
        sum += p.wd * d[0];
    }
    y[0] = vec4<f32>(sum, 0.0, 0.0, 0.0);
}
