// Ceiling of copying: y = x, cell by cell. x, y (cells) F32.
//
// Work: one invocation per EACH cells, a workgroup's stride apart, so that neighbours move neighbouring memory.
// Cost: no arithmetic; reads x, writes y.

override EACH: u32 = 1u;       // cells per invocation
override WORKGROUP: u32 = 64u;

struct Params {
    cells: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Floats>;
@group(0) @binding(1) var<storage, read_write> y: array<Floats>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let first = group_index(wid, count) * (EACH * WORKGROUP) + lid;
    for (var j = 0u; j < EACH; j++) {
        let i = first + j * WORKGROUP;
        if i < p.cells {
            y[i] = x[i];
        }
    }
}
