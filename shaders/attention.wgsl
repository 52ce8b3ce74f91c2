// Attention: o[b,h,i,:] = sum over keys j of P[i,j] v[b,h,j,:], P = softmax over j of q_i . k_j scale. A key whose mask
// is 0 gets no weight; a row without any key gives 0. The row's log-sum-exp is kept for the backward pass.
//
// q, o (B, H, I, d), k, v (B, H, J, d), mask F32 (B, J), lse F32 (B, H, I).
// Online softmax (Milakov and Gimelshein, 2018; Dao and others, 2022): keys come in blocks of KEYS; the running sum l
// and the output are rescaled by exp(m - m') when a block raises the maximum m. No score is ever stored.
//
// Work: one invocation owns four queries and SLICE cells of their outputs in registers, as 4x4 matrices; wider heads
// are cut into slices that each compute the scores anew. Matrices of scores have the keys as columns, so that maximum,
// exponential and sum take four queries at a time; transposing registers is free.
// Cost: 2 B H I J d (1 + slices) FLOPs; K and V are read once per four queries, mostly from caches; o is written once.

override SLICE: u32 = 8u;      // cells of a row per invocation: 4, 8 or 16, as registers allow
override KEYS: u32 = 16u;      // keys per block: 16, or 4 where keys are few
override WORKGROUP: u32 = 8u;
// Params, add and places stand in parts/attention.wgsl, which all three kernels of attention share.

const LOWEST = -3.0e38;        // below every score, yet finite: infinities would meet as inf - inf
const NO_KEY = 3.0e38;         // log-sum-exp of a row without keys: every probability recomputed from it is 0

@group(0) @binding(0) var<storage, read> q: array<Stored4>;
@group(0) @binding(1) var<storage, read> k: array<Stored4>;
@group(0) @binding(2) var<storage, read> v: array<Stored4>;
@group(0) @binding(3) var<storage, read> mask: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> o: array<Stored4>;
@group(0) @binding(5) var<storage, read_write> lse: array<vec4<f32>>;

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

// A cell of four outputs, rescaled by the factor of each query.
fn shrunk(sum: mat4x4<f32>, by: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(sum[0] * by.x, sum[1] * by.y, sum[2] * by.z, sum[3] * by.w);
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
    var o8 = mat4x4<f32>(); var o9 = mat4x4<f32>(); var o10 = mat4x4<f32>(); var o11 = mat4x4<f32>();
    var o12 = mat4x4<f32>(); var o13 = mat4x4<f32>(); var o14 = mat4x4<f32>(); var o15 = mat4x4<f32>();
    var m = vec4(LOWEST); var l = vec4(0.0);
    for (var key = 0u; key < p.keys; key += KEYS) {
        var s0 = mat4x4<f32>(); var s1 = mat4x4<f32>(); var s2 = mat4x4<f32>(); var s3 = mat4x4<f32>();
        for (var cell = 0u; cell < p.cells; cell++) {
            let columns = transpose(load_q(head, query, cell));
            s0 = add(s0, load_k(head, key, cell), columns);
            if (KEYS > 4u) {
                s1 = add(s1, load_k(head, key + 4u, cell), columns);
                s2 = add(s2, load_k(head, key + 8u, cell), columns);
                s3 = add(s3, load_k(head, key + 12u, cell), columns);
            }
        }
        s0 = scores(s0, head, key);
        var top = max(m, highest(s0));
        if (KEYS > 4u) {
            s1 = scores(s1, head, key + 4u); s2 = scores(s2, head, key + 8u); s3 = scores(s3, head, key + 12u);
            top = max(top, max(highest(s1), max(highest(s2), highest(s3))));
            s1 = weights(s1, top); s2 = weights(s2, top); s3 = weights(s3, top);
        }
        s0 = weights(s0, top);
        let f = exp(m - top);
        m = top;
        l = l * f + (s0 + s1 + s2 + s3) * vec4(1.0);
        o0 = shrunk(o0, f); o1 = shrunk(o1, f); o2 = shrunk(o2, f); o3 = shrunk(o3, f);
        if (SLICE > 4u) {
            o4 = shrunk(o4, f); o5 = shrunk(o5, f); o6 = shrunk(o6, f); o7 = shrunk(o7, f);
        }
        if (SLICE > 8u) {
            o8 = shrunk(o8, f); o9 = shrunk(o9, f); o10 = shrunk(o10, f); o11 = shrunk(o11, f);
            o12 = shrunk(o12, f); o13 = shrunk(o13, f); o14 = shrunk(o14, f); o15 = shrunk(o15, f);
        }
        // The blocks of weights take turns in s0, so that the text of their products stands here once.
        for (var at = key; at < min(key + KEYS, p.keys); at += 4u) {
            let w = transpose(s0);
            s0 = s1; s1 = s2; s2 = s3;
            o0 = add(o0, w, load_v(head, at, slice)); o1 = add(o1, w, load_v(head, at, slice + 1u));
            o2 = add(o2, w, load_v(head, at, slice + 2u)); o3 = add(o3, w, load_v(head, at, slice + 3u));
            if (SLICE > 4u) {
                o4 = add(o4, w, load_v(head, at, slice + 4u)); o5 = add(o5, w, load_v(head, at, slice + 5u));
                o6 = add(o6, w, load_v(head, at, slice + 6u)); o7 = add(o7, w, load_v(head, at, slice + 7u));
            }
            if (SLICE > 8u) {
                o8 = add(o8, w, load_v(head, at, slice + 8u)); o9 = add(o9, w, load_v(head, at, slice + 9u));
                o10 = add(o10, w, load_v(head, at, slice + 10u)); o11 = add(o11, w, load_v(head, at, slice + 11u));
                o12 = add(o12, w, load_v(head, at, slice + 12u)); o13 = add(o13, w, load_v(head, at, slice + 13u));
                o14 = add(o14, w, load_v(head, at, slice + 14u)); o15 = add(o15, w, load_v(head, at, slice + 15u));
            }
        }
    }
    let r = select(vec4(0.0), 1.0 / l, l > vec4(0.0));
    store(head, query, slice, o0, r); store(head, query, slice + 1u, o1, r);
    store(head, query, slice + 2u, o2, r); store(head, query, slice + 3u, o3, r);
    if (SLICE > 4u) {
        store(head, query, slice + 4u, o4, r); store(head, query, slice + 5u, o5, r);
        store(head, query, slice + 6u, o6, r); store(head, query, slice + 7u, o7, r);
    }
    if (SLICE > 8u) {
        store(head, query, slice + 8u, o8, r); store(head, query, slice + 9u, o9, r);
        store(head, query, slice + 10u, o10, r); store(head, query, slice + 11u, o11, r);
        store(head, query, slice + 12u, o12, r); store(head, query, slice + 13u, o13, r);
        store(head, query, slice + 14u, o14, r); store(head, query, slice + 15u, o15, r);
    }
    if (slice == 0u) {
        let kept = select(vec4(NO_KEY), m + log(l), l > vec4(0.0));
        let inside = vec4(query) + vec4(0u, 1u, 2u, 3u) < vec4(p.queries);
        lse[head * ((p.queries + 3u) / 4u) + query / 4u] = select(vec4(0.0), kept, inside);
    }
}
