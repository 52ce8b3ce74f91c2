// sum_squares: partials[g] = sum of x[i]^2 over the cells i of workgroup g
//
// Shapes: x (any) f32; partials (groups) f32. The sum of the partials is the squared norm; `step_control` takes it.
// Work:   workgroup g takes `chunk` cells from g * chunk on. Its invocations go over them SIDE neighbours at a time: all of the
//         chunk at once where hardware runs them together, eight in a part of it where a processor that plays GPU runs eight to
//         their end before the next, so that either reads memory in order. Few groups with long loops, because a group costs a tree.
// Cost:   2 FLOPs and 4 bytes an element: bandwidth only.
//
// The order of the additions depends on the number of groups alone, never on which group finishes first: two runs give
// the same bits. A NaN or an infinity anywhere reaches the result, and that is how an overflow is noticed.

struct Params {
    cells: u32,
    groups: u32,
    chunk: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Floats>;
@group(0) @binding(1) var<storage, read_write> partials: array<f32>;

// Fixed by the tree of the reduce part.
override WORKGROUP: u32 = 64u;
override SIDE: u32 = 64u;  // 8 or 64

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let group = group_index(wid, count);
    if (group >= p.groups) {
        return;
    }
    // Four running sums, one a lane: shorter chains of additions, so less rounding than one sum would gather.
    var sums = vec4<f32>(0.0);
    let part = p.chunk / (WORKGROUP / SIDE);
    let first = group * p.chunk + lid / SIDE * part;
    let end = min(first + part, p.cells);
    var cell = first + lid % SIDE;
    // Four loads under way at once, then what is left.
    for (; cell + 3u * SIDE < end; cell += 4u * SIDE) {
        let v0 = floats(x[cell]);
        let v1 = floats(x[cell + SIDE]);
        let v2 = floats(x[cell + 2u * SIDE]);
        let v3 = floats(x[cell + 3u * SIDE]);
        sums += (v0 * v0 + v1 * v1) + (v2 * v2 + v3 * v3);
    }
    for (; cell < end; cell += SIDE) {
        let v = floats(x[cell]);
        sums += v * v;
    }
    let total = reduce_sum(lid, dot(sums, vec4<f32>(1.0)));
    if (lid == 0u) {
        partials[group] = total;
    }
}
