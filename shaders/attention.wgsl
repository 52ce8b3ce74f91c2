// Attention: o[b,h,i,:] = sum over keys j of P[i,j] v[b,h,j,:], P = softmax over j of q_i . k_j scale. A key whose mask
// is 0 gets no weight; a row without any key gives 0. The row's log-sum-exp is kept for the backward pass.
//
// q, o (B, H, I, d), k, v (B, H, J, d), mask F32 (B, J), lse F32 (B, H, I).
// Online softmax (Milakov and Gimelshein, 2018; Dao and others, 2022): keys come in blocks of 8; the running sum l and
// the output are rescaled by exp(m - m') when a block raises the maximum m. No score is ever stored.
//
// Work: one invocation owns four queries and SLICE cells of their outputs in registers, as 4x4 matrices; wider heads
// are cut into slices that each compute the scores anew. Matrices of scores have the keys as columns, so that maximum,
// exponential and sum take four queries at a time; transposing registers is free.
// Cost: 2 B H I J d (1 + slices) FLOPs; K and V are read once per four queries, mostly from caches; o is written once.

override SLICE: u32 = 8u;      // cells of a row per invocation: 4 or 8, as registers allow
override WORKGROUP: u32 = 8u;

const LOWEST = -3.0e38;        // below every score, yet finite: infinities would meet as inf - inf
const NO_KEY = 3.0e38;         // log-sum-exp of a row without keys: every probability recomputed from it is 0

struct Params {
    batches: u32,  // samples times heads
    heads: u32,
    queries: u32,
    keys: u32,
    cells: u32,    // of a row of one head
    tiles: u32,    // workgroups per head and slice
    slices: u32,
    scale: f32,
    masked: u32,   // whether keys are left out
}

@group(0) @binding(0) var<storage, read> q: array<Stored4>;
@group(0) @binding(1) var<storage, read> k: array<Stored4>;
@group(0) @binding(2) var<storage, read> v: array<Stored4>;
@group(0) @binding(3) var<storage, read> mask: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> o: array<Stored4>;
@group(0) @binding(5) var<storage, read_write> lse: array<vec4<f32>>;

fn add_row(sum: vec4<f32>, rows: mat4x4<f32>, x: vec4<f32>) -> vec4<f32> {
    return sum + rows[0] * x.x + rows[1] * x.y + rows[2] * x.z + rows[3] * x.w;
}

// Column i of the sum grows by the rows weighted with column i of x.
fn add(sum: mat4x4<f32>, x: mat4x4<f32>, rows: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(add_row(sum[0], rows, x[0]), add_row(sum[1], rows, x[1]), add_row(sum[2], rows, x[2]),
        add_row(sum[3], rows, x[3]));
}

// Cells of four rows of one head. Past the end the last ones repeat: they get no weight, or are not stored.
fn places(head: u32, row: u32, rows: u32, cell: u32) -> vec4<u32> {
    return (head * rows + min(row + vec4(0u, 1u, 2u, 3u), vec4(rows - 1u))) * p.cells + min(cell, p.cells - 1u);
}
fn load_q(head: u32, row: u32, cell: u32) -> mat4x4<f32> {
    let at = places(head, row, p.queries, cell);
    return mat4x4(unpack4(q[at.x]), unpack4(q[at.y]), unpack4(q[at.z]), unpack4(q[at.w]));
}
fn load_k(head: u32, row: u32, cell: u32) -> mat4x4<f32> {
    let at = places(head, row, p.keys, cell);
    return mat4x4(unpack4(k[at.x]), unpack4(k[at.y]), unpack4(k[at.z]), unpack4(k[at.w]));
}
fn load_v(head: u32, row: u32, cell: u32) -> mat4x4<f32> {
    let at = places(head, row, p.keys, cell);
    return mat4x4(unpack4(v[at.x]), unpack4(v[at.y]), unpack4(v[at.z]), unpack4(v[at.w]));
}

fn scores(sums: mat4x4<f32>, head: u32, key: u32) -> mat4x4<f32> {
    var live = vec4(key) + vec4(0u, 1u, 2u, 3u) < vec4(p.keys);
    if (p.masked != 0u && live.x) { live = live & (mask[head / p.heads * ((p.keys + 3u) / 4u) + key / 4u] != vec4(0.0)); }
    let low = vec4(LOWEST);
    return mat4x4(select(low, sums[0] * p.scale, live.x), select(low, sums[1] * p.scale, live.y),
        select(low, sums[2] * p.scale, live.z), select(low, sums[3] * p.scale, live.w));
}

fn highest(s: mat4x4<f32>) -> vec4<f32> { return max(max(s[0], s[1]), max(s[2], s[3])); }

fn weight(s: vec4<f32>, top: vec4<f32>) -> vec4<f32> { return select(exp(s - top), vec4(0.0), s == vec4(LOWEST)); }

fn weights(s: mat4x4<f32>, top: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(weight(s[0], top), weight(s[1], top), weight(s[2], top), weight(s[3], top));
}

// Eight keys: their weights (columns: queries) and the factor for what was summed before them.
struct Step { head: u32, key: u32, shrink: vec4<f32>, w0: mat4x4<f32>, w1: mat4x4<f32> }

// One cell of four outputs after a step.
fn grow(sum: mat4x4<f32>, s: Step, cell: u32) -> mat4x4<f32> {
    let kept = mat4x4(sum[0] * s.shrink.x, sum[1] * s.shrink.y, sum[2] * s.shrink.z, sum[3] * s.shrink.w);
    return add(add(kept, s.w0, load_v(s.head, s.key, cell)), s.w1, load_v(s.head, s.key + 4u, cell));
}

fn store(head: u32, query: u32, cell: u32, sum: mat4x4<f32>, inverse: vec4<f32>) {
    if (cell >= p.cells) { return; }
    let at = (head * p.queries + query) * p.cells + cell;
    o[at] = pack4(sum[0] * inverse.x);
    if (query + 1u < p.queries) { o[at + p.cells] = pack4(sum[1] * inverse.y); }
    if (query + 2u < p.queries) { o[at + 2u * p.cells] = pack4(sum[2] * inverse.z); }
    if (query + 3u < p.queries) { o[at + 3u * p.cells] = pack4(sum[3] * inverse.w); }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let group = group_index(wid, count);
    let head = group / (p.tiles * p.slices);
    let query = (group % p.tiles * WORKGROUP + lid) * 4u;
    let slice = group / p.tiles % p.slices * SLICE;
    if (head >= p.batches || query >= p.queries) { return; }
    var o0 = mat4x4<f32>(); var o1 = mat4x4<f32>(); var o2 = mat4x4<f32>(); var o3 = mat4x4<f32>();
    var o4 = mat4x4<f32>(); var o5 = mat4x4<f32>(); var o6 = mat4x4<f32>(); var o7 = mat4x4<f32>();
    var m = vec4(LOWEST); var l = vec4(0.0);
    for (var key = 0u; key < p.keys; key += 8u) {
        var s0 = mat4x4<f32>(); var s1 = mat4x4<f32>();
        for (var cell = 0u; cell < p.cells; cell++) {
            let columns = transpose(load_q(head, query, cell));
            s0 = add(s0, load_k(head, key, cell), columns);
            s1 = add(s1, load_k(head, key + 4u, cell), columns);
        }
        s0 = scores(s0, head, key); s1 = scores(s1, head, key + 4u);
        let top = max(m, max(highest(s0), highest(s1)));
        let shrink = exp(m - top);
        m = top;
        s0 = weights(s0, m); s1 = weights(s1, m);
        l = l * shrink + (s0 + s1) * vec4(1.0);
        let step = Step(head, key, shrink, transpose(s0), transpose(s1));
        o0 = grow(o0, step, slice); o1 = grow(o1, step, slice + 1u);
        o2 = grow(o2, step, slice + 2u); o3 = grow(o3, step, slice + 3u);
        if (SLICE > 4u) {
            o4 = grow(o4, step, slice + 4u); o5 = grow(o5, step, slice + 5u);
            o6 = grow(o6, step, slice + 6u); o7 = grow(o7, step, slice + 7u);
        }
    }
    let r = select(vec4(0.0), 1.0 / l, l > vec4(0.0));
    store(head, query, slice, o0, r); store(head, query, slice + 1u, o1, r);
    store(head, query, slice + 2u, o2, r); store(head, query, slice + 3u, o3, r);
    if (SLICE > 4u) {
        store(head, query, slice + 4u, o4, r); store(head, query, slice + 5u, o5, r);
        store(head, query, slice + 6u, o6, r); store(head, query, slice + 7u, o7, r);
    }
    if (slice == 0u) {
        let kept = select(vec4(NO_KEY), m + log(l), l > vec4(0.0));
        let inside = vec4(query) + vec4(0u, 1u, 2u, 3u) < vec4(p.queries);
        lse[head * ((p.queries + 3u) / 4u) + query / 4u] = select(vec4(0.0), kept, inside);
    }
}
