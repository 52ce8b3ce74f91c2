// What attention's backward kernels need of each row, side by side: the log-sum-exp (copied) and
// delta_i = sum over d of o[i,d] do[i,d], which is sum over j of P[i,j] dP[i,j] without a second pass over the keys.
//
// o, do (B, H, I, d), lse F32 (B, H, I), statistics F32 (B, H, 2, I).
//
// Work: one invocation owns four rows, one cell of each statistic.
// Cost: 2 B H I d FLOPs; reads o and do once.

override WORKGROUP: u32 = 64u;

struct Params {
    heads: u32,    // all of them: samples times heads
    queries: u32,
    cells: u32,
}

@group(0) @binding(0) var<storage, read> o: array<Stored4>;
@group(0) @binding(1) var<storage, read> grad: array<Stored4>;
@group(0) @binding(2) var<storage, read> lse: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read_write> statistics: array<vec4<f32>>;

// Rows past the end are padding: zero.
fn delta(head: u32, query: u32) -> f32 {
    if (query >= p.queries) { return 0.0; }
    let start = (head * p.queries + query) * p.cells;
    var sum = vec4(0.0);
    for (var i = start; i < start + p.cells; i++) { sum += unpack4(o[i]) * unpack4(grad[i]); }
    return sum.x + sum.y + sum.z + sum.w;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let row_cells = (p.queries + 3u) / 4u;
    let at = group_index(wid, count) * WORKGROUP + lid;
    if (at >= p.heads * row_cells) { return; }
    let head = at / row_cells;
    let query = at % row_cells * 4u;
    let to = 2u * head * row_cells + query / 4u;
    statistics[to] = lse[at];
    statistics[to + row_cells] =
        vec4(delta(head, query), delta(head, query + 1u), delta(head, query + 2u), delta(head, query + 3u));
}
