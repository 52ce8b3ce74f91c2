// Self-attention of each head: o_i = sum over keys j of P[i,j] v_j, P = softmax over j of q_i . k_j scale. A key whose mask
// is 0 gets no weight; a row without any key gives 0. The row's log-sum-exp is kept for the backward pass.
//
// qkv (B, N, 3 H d): of each token the queries of all heads, then the keys, then the values, as the linear layer before
// writes them; o (B, N, H d), as the one behind reads it; d a multiple of 4; mask F32 (B, N), lse F32 (B, H, N).
// Online softmax (Milakov and Gimelshein, 2018; Dao and others, 2022): keys come in blocks of KEYS; the running sum l
// and the output are rescaled by exp(m - m') when a block raises the maximum m. No score is ever stored.
//
// Work: one invocation owns four queries and SLICE cells of their outputs in registers, as 4x4 matrices; wider heads
// are cut into slices that each compute the scores anew. Keys are loaded for all invocations of a group at once
// (parts/loads_*.wgsl). Matrices of scores have the keys as columns, so that maximum, exponential and sum take four
// queries at a time; transposing registers is free.
// Cost: 2 B H N N d (1 + slices) FLOPs; K and V are read once per four queries, mostly from caches; o is written once.

override SLICE: u32 = 8u;      // cells of a row per invocation: 4, 8 or 16, as registers allow
override KEYS: u32 = 16u;      // keys per block: 4, 8 or 16, as registers allow
override WORKGROUP: u32 = 8u;
// Params and row_of stand in parts/attention_params.wgsl, add and own_rows in parts/attention.wgsl.

const LOWEST = -3.0e38;        // below every score, yet finite: infinities would meet as inf - inf
const NO_KEY = 3.0e38;         // log-sum-exp of a row without keys: every probability recomputed from it is 0

@group(0) @binding(0) var<storage, read> qkv: array<Stored4>;
@group(0) @binding(1) var<storage, read> mask: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> o: array<Stored4>;
@group(0) @binding(3) var<storage, read_write> lse: array<vec4<f32>>;

const QKV = 0u;

// Where a key's row lies behind the first one. Past the end the last one repeats: it gets no weight.
fn place(key: u32) -> u32 { return min(key, p.tokens - 1u) * 3u * p.row; }

fn cell(operand: u32, place: u32, offset: u32) -> vec4<f32> { return unpack4(qkv[place + offset]); }

fn load(at: vec4<u32>) -> mat4x4<f32> {
    return mat4x4(unpack4(qkv[at.x]), unpack4(qkv[at.y]), unpack4(qkv[at.z]), unpack4(qkv[at.w]));
}

fn scores(sums: mat4x4<f32>, head: u32, key: u32) -> mat4x4<f32> {
    var live = vec4(key) + vec4(0u, 1u, 2u, 3u) < vec4(p.tokens);
    if (p.masked != 0u && live.x) { live = live & (mask[head / p.heads * ((p.tokens + 3u) / 4u) + key / 4u] != vec4(0.0)); }
    let low = vec4(LOWEST);
    return mat4x4(select(low, sums[0] * p.scale, live.x), select(low, sums[1] * p.scale, live.y),
        select(low, sums[2] * p.scale, live.z), select(low, sums[3] * p.scale, live.w));
}

fn highest(s: mat4x4<f32>) -> vec4<f32> { return max(max(s[0], s[1]), max(s[2], s[3])); }

fn weight(s: vec4<f32>, top: vec4<f32>) -> vec4<f32> { return select(exp(s - top), vec4(0.0), s == vec4(LOWEST)); }

fn weights(s: mat4x4<f32>, top: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(weight(s[0], top), weight(s[1], top), weight(s[2], top), weight(s[3], top));
}

// Four cells of outputs, rescaled by the factor of each query.
fn shrunk(sum: Quad, by: vec4<f32>) -> Quad {
    return Quad(scaled(sum.a, by), scaled(sum.b, by), scaled(sum.c, by), scaled(sum.d, by));
}
fn scaled(sum: mat4x4<f32>, by: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(sum[0] * by.x, sum[1] * by.y, sum[2] * by.z, sum[3] * by.w);
}

fn store_cell(head: u32, query: u32, cell: u32, sum: mat4x4<f32>) {
    if (cell >= p.cells || query >= p.tokens) { return; }
    let at = row_of(head, query, 1u, 0u) + cell;
    o[at] = pack4(sum[0]);
    if (query + 1u < p.tokens) { o[at + p.row] = pack4(sum[1]); }
    if (query + 2u < p.tokens) { o[at + 2u * p.row] = pack4(sum[2]); }
    if (query + 3u < p.tokens) { o[at + 3u * p.row] = pack4(sum[3]); }
}

fn store(head: u32, query: u32, cell: u32, sum: Quad) {
    store_cell(head, query, cell, sum.a);
    store_cell(head, query, cell + 1u, sum.b);
    store_cell(head, query, cell + 2u, sum.c);
    store_cell(head, query, cell + 3u, sum.d);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let group = group_index(wid, count);
    let head = group / (p.tiles * p.slices);
    let query = (group % p.tiles * WORKGROUP + lid) * 4u;
    let slice = group / p.tiles % p.slices * SLICE;
    if (head >= p.batches) { return; }
    var o0 = Quad(); var o1 = Quad(); var o2 = Quad(); var o3 = Quad();
    var m = vec4(LOWEST); var l = vec4(0.0);
    let own = own_rows(head, query, 3u, Q);
    let keys = row_of(head, 0u, 3u, K);
    let values = row_of(head, 0u, 3u, V);
    for (var key = 0u; key < p.tokens; key += KEYS) {
        var s0 = mat4x4<f32>(); var s1 = mat4x4<f32>(); var s2 = mat4x4<f32>(); var s3 = mat4x4<f32>();
        let first = places(key, lid);
        let second = places(key + 8u, lid);
        for (var cell = 0u; cell < p.cells; cell++) {
            let columns = transpose(load(own + cell));
            let x = eight(QKV, first, keys + cell);
            s0 = add(s0, x.low, columns);
            if (KEYS > 4u) { s1 = add(s1, x.high, columns); }
            if (KEYS > 8u) {
                let y = eight(QKV, second, keys + cell);
                s2 = add(s2, y.low, columns);
                s3 = add(s3, y.high, columns);
            }
        }
        s0 = scores(s0, head, key);
        var top = max(m, highest(s0));
        if (KEYS > 4u) { s1 = scores(s1, head, key + 4u); top = max(top, highest(s1)); }
        if (KEYS > 8u) {
            s2 = scores(s2, head, key + 8u); s3 = scores(s3, head, key + 12u);
            top = max(top, max(highest(s2), highest(s3)));
            s2 = weights(s2, top); s3 = weights(s3, top);
        }
        if (KEYS > 4u) { s1 = weights(s1, top); }
        s0 = weights(s0, top);
        let f = exp(m - top);
        m = top;
        l = l * f + (s0 + s1 + s2 + s3) * vec4(1.0);
        o0 = shrunk(o0, f);
        if (SLICE > 4u) { o1 = shrunk(o1, f); }
        if (SLICE > 8u) { o2 = shrunk(o2, f); o3 = shrunk(o3, f); }
        // The blocks of weights take turns in s0 and s1, so that the text of their products stands here once.
        for (var at = key; at < min(key + KEYS, p.tokens); at += 8u) {
            let w = transpose(s0); let x = transpose(s1);
            s0 = s2; s1 = s3;
            let rows = places(at, lid);
            o0 = add_quad(o0, w, x, QKV, rows, values, slice, KEYS);
            if (SLICE > 4u) { o1 = add_quad(o1, w, x, QKV, rows, values, slice + 4u, KEYS); }
            if (SLICE > 8u) {
                o2 = add_quad(o2, w, x, QKV, rows, values, slice + 8u, KEYS);
                o3 = add_quad(o3, w, x, QKV, rows, values, slice + 12u, KEYS);
            }
        }
    }
    let r = select(vec4(0.0), 1.0 / l, l > vec4(0.0));
    store(head, query, slice, shrunk(o0, r));
    if (SLICE > 4u) { store(head, query, slice + 4u, shrunk(o1, r)); }
    if (SLICE > 8u) { store(head, query, slice + 8u, shrunk(o2, r)); store(head, query, slice + 12u, shrunk(o3, r)); }
    if (slice == 0u && query < p.tokens) {
        let kept = select(vec4(NO_KEY), m + log(l), l > vec4(0.0));
        let inside = vec4(query) + vec4(0u, 1u, 2u, 3u) < vec4(p.tokens);
        lse[head * ((p.tokens + 3u) / 4u) + query / 4u] = select(vec4(0.0), kept, inside);
    }
}
