// overflow_check: found = how many elements of x are infinite or NaN
//
// Shapes: x (any), any storage; found () u32.
// Work:   one workgroup, which strides over all cells: a tool for tests and for finding where a NaN began, not part of a
//         training step, where the gradient norm answers the same question for free.
// Cost:   one comparison an element, and its bytes.
//
// Why bits: shader compilers may assume that there is no NaN, and then `x != x` is false and `x < limit` is anything.
// Infinities and NaNs are the values whose eight exponent bits are all ones; nothing can be assumed about integers.

struct Params {
    cells: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;
@group(0) @binding(1) var<storage, read_write> found: array<u32>;

// Invocations of the workgroup; `counts` has one slot for each.
override WORKGROUP: u32 = 256u;

const EXPONENT = vec4<u32>(0x7f800000u);

var<workgroup> counts: array<u32, WORKGROUP>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    if (group_index(wid, count) > 0u) {
        return;
    }
    var hits = vec4<u32>(0u);
    for (var cell = lid; cell < p.cells; cell += WORKGROUP) {
        let exponent = bitcast<vec4<u32>>(unpack4(x[cell])) & EXPONENT;
        hits += select(vec4<u32>(0u), vec4<u32>(1u), exponent == EXPONENT);
    }
    counts[lid] = hits.x + hits.y + hits.z + hits.w;
    // The first invocation reads what the others wrote.
    workgroupBarrier();
    if (lid == 0u) {
        var total = 0u;
        for (var i = 0u; i < WORKGROUP; i++) {
            total += counts[i];
        }
        found[0] = total;
        found[1] = 0u;
        found[2] = 0u;
        found[3] = 0u;
    }
}
