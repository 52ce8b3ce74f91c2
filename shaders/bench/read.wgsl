// Ceiling of reading: y[i] is the sum of EACH cells of x.
//
// x (cells) F32, y (cells / EACH, rounded up to workgroups) F32.
// Work: one invocation per EACH cells, a workgroup's stride apart.
// Cost: one addition per number; reads x, writes an EACH-th of that.

override EACH: u32 = 64u;       // cells per invocation
override WORKGROUP: u32 = 64u;

struct Params {
    cells: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Floats>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let group = group_index(wid, count);
    let first = group * (EACH * WORKGROUP) + lid;
    if group * (EACH * WORKGROUP) >= p.cells {
        return;
    }
    var sum = vec4(0.0);
    for (var j = 0u; j < EACH; j++) {
        let i = first + j * WORKGROUP;
        if i < p.cells {
            sum += floats(x[i]);
        }
    }
    y[group * WORKGROUP + lid] = sum;
}
