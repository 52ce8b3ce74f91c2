// Gradients of attention's keys and values: dv_j = sum over queries i of P[i,j] do_i, dk_j = sum over i of dS[i,j] q_i,
// dS = P (dP - delta_i) scale, P[i,j] = exp(q_i . k_j scale - lse_i) recomputed, dP[i,j] = do_i . v_j. With WHOLE the gradient of the
// queries too, which is attention_backward_query's otherwise: dq_i = sum over j of dS[i,j] k_j, delta_i = o_i . do_i.
//
// qkv, dqkv (B, N, 3 H d), of which dk and dv are the second and third part and nothing else is written but for WHOLE, o, do
// (B, N, H d), d a multiple of 4, mask F32 (B, N), lse, delta F32 (B, H, N), delta read, or written for WHOLE.
//
// Work: one invocation owns four keys and SLICE cells of both gradients in registers; queries come in blocks of QUERIES,
// loaded for all invocations of a group at once, and are the columns of the matrices of scores.
// WHOLE: one workgroup of eight for all keys of a head, 32 at a time. A query's gradient is a sum over keys, which lie in all
// invocations: they show each other their slopes, and each adds up two cells of the queries, whose keys it keeps, and takes the sum
// along in dqkv from one 32 keys to the next. Five products for the seven of two kernels, for one workgroup where there could be
// many, and in f32 only, which memory does not round: for processors that play GPU.
// Cost: 4 B H N N d (slices + 1) FLOPs, 10 B H N N d for WHOLE; q and do are read once per four keys, mostly from caches.

override SLICE: u32 = 8u;      // cells of a row per invocation: 4, 8 or 16, as registers allow; for WHOLE all of them
override QUERIES: u32 = 16u;   // queries per block: 4, 8 or 16, as registers allow
override WORKGROUP: u32 = 8u;
override WHOLE: bool = false;
// Params and row_of stand in parts/attention_params.wgsl, add and own_rows in parts/attention.wgsl, cell, place, load, store,
// hold and grow in parts/attention_keys.wgsl, deltas in parts/attention_delta.wgsl, show and shown0 to 7 in parts/given_*.wgsl.

@group(0) @binding(0) var<storage, read> qkv: array<Stored4>;
@group(0) @binding(1) var<storage, read> o: array<Stored4>;
@group(0) @binding(2) var<storage, read> grad: array<Stored4>;
@group(0) @binding(3) var<storage, read> mask: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> lse: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> dqkv: array<Stored4>;
@group(0) @binding(6) var<storage, read_write> delta: array<vec4<f32>>;

// The cell of lse and of delta that holds four queries.
fn statistic(head: u32, query: u32) -> u32 {
    return head * ((p.tokens + 3u) / 4u) + min(query, p.tokens - 1u) / 4u;
}

// P of four queries, each for four keys. Queries past the end get an enormous log-sum-exp, and so no weight.
fn probabilities(s: mat4x4<f32>, head: u32, query: u32, live: vec4<bool>) -> mat4x4<f32> {
    let inside = vec4(query) + vec4(0u, 1u, 2u, 3u) < vec4(p.tokens);
    let l = select(vec4(3.0e38), lse[statistic(head, query)], inside);
    let e = mat4x4(exp(s[0] * p.scale - l.x), exp(s[1] * p.scale - l.y), exp(s[2] * p.scale - l.z),
        exp(s[3] * p.scale - l.w));
    let none = vec4(0.0);
    return mat4x4(select(none, e[0], live), select(none, e[1], live), select(none, e[2], live),
        select(none, e[3], live));
}

fn slopes(w: mat4x4<f32>, g: mat4x4<f32>, head: u32, query: u32) -> mat4x4<f32> {
    let d = delta[statistic(head, query)];
    return p.scale * mat4x4(w[0] * (g[0] - d.x), w[1] * (g[1] - d.y), w[2] * (g[2] - d.z), w[3] * (g[3] - d.w));
}

// The keys of 32 tokens weighted with their slopes x, which this invocation has of four of them: two cells of the gradients of eight
// queries, added to what the keys before came to, unless these are the first.
fn grow_queries(head: u32, query: u32, lid: u32, first: bool, x: Two, a: Held, b: Held) {
    show(lid, x);
    var sum = grow(Sums(), shown0(x), a.k0, b.k0);
    sum = grow(sum, shown1(x), a.k1, b.k1); sum = grow(sum, shown2(x), a.k2, b.k2); sum = grow(sum, shown3(x), a.k3, b.k3);
    sum = grow(sum, shown4(x), a.k4, b.k4); sum = grow(sum, shown5(x), a.k5, b.k5); sum = grow(sum, shown6(x), a.k6, b.k6);
    sum = grow(sum, shown7(x), a.k7, b.k7);
    store_queries(head, query, lid, first, sum.a);
    store_queries(head, query, lid + 8u, first, sum.b);
}

fn store_queries(head: u32, query: u32, cell: u32, first: bool, sum: Two) {
    if (cell >= p.cells) { return; }
    var rest = sum;
    for (var i = query; i < min(query + min(8u, QUERIES), p.tokens); i++) {
        let at = row_of(head, i, 3u, Q) + cell;
        if (first) { dqkv[at] = pack4(rest.low[0]); } else { dqkv[at] = pack4(unpack4(dqkv[at]) + rest.low[0]); }
        // The next one takes its place, so that the text of a store stands here once.
        rest = Two(mat4x4(rest.low[1], rest.low[2], rest.low[3], rest.high[0]),
            mat4x4(rest.high[1], rest.high[2], rest.high[3], rest.high[3]));
    }
}

fn store_deltas(head: u32, lid: u32) {
    for (var query = 4u * lid; query < p.tokens; query += 4u * WORKGROUP) {
        let inside = vec4(query) + vec4(0u, 1u, 2u, 3u) < vec4(p.tokens);
        delta[statistic(head, query)] = select(vec4(0.0), deltas(own_rows(head, query, 1u, 0u)), inside);
    }
    storageBarrier();
}

// The gradients of four keys for each invocation, from key `tile` on.
fn gradients_of_keys(head: u32, tile: u32, slice: u32, lid: u32) {
    let key = tile + 4u * lid;
    var live = vec4(key) + vec4(0u, 1u, 2u, 3u) < vec4(p.tokens);
    if (p.masked != 0u && live.x) { live = live & (mask[head / p.heads * ((p.tokens + 3u) / 4u) + key / 4u] != vec4(0.0)); }
    var a0 = Quad(); var a1 = Quad(); var a2 = Quad(); var a3 = Quad();
    var b0 = Quad(); var b1 = Quad(); var b2 = Quad(); var b3 = Quad();
    var h0 = Held(); var h1 = Held();
    if (WHOLE) { h0 = hold(head, tile, lid); h1 = hold(head, tile, lid + 8u); }
    let own_keys = own_rows(head, key, 3u, K);
    let own_values = own_keys + p.row;
    let queries = row_of(head, 0u, 3u, Q);
    let grads = row_of(head, 0u, 1u, 0u);
    for (var query = 0u; query < p.tokens; query += QUERIES) {
        var s = Quad(); var g = Quad();
        let first = places(query, lid);
        let second = places(query + 8u, lid);
        for (var cell = 0u; cell < p.cells; cell++) {
            let keys = transpose(load(own_keys + cell));
            let values = transpose(load(own_values + cell));
            s = grow_scores(s, keys, QKV, first, second, queries + cell, QUERIES);
            g = grow_scores(g, values, GRAD, first, second, grads + cell, QUERIES);
        }
        // Eight queries at a time take the first ones' place, so that the text of their products stands here once.
        for (var at = query; at < min(query + QUERIES, p.tokens); at += 8u) {
            let w = probabilities(s.a, head, at, live); let v = probabilities(s.b, head, at + 4u, live);
            let slope = Two(slopes(w, g.a, head, at), slopes(v, g.b, head, at + 4u));
            if (WHOLE) { grow_queries(head, at, lid, tile == 0u, slope, h0, h1); }
            let x = transpose(slope.low); let u = transpose(slope.high);
            let y = transpose(w); let z = transpose(v);
            s = Quad(s.c, s.d, s.c, s.d); g = Quad(g.c, g.d, g.c, g.d);
            let rows = places(at, lid);
            a0 = add_quad(a0, x, u, QKV, rows, queries, slice, QUERIES);
            b0 = add_quad(b0, y, z, GRAD, rows, grads, slice, QUERIES);
            if (SLICE > 4u) {
                a1 = add_quad(a1, x, u, QKV, rows, queries, slice + 4u, QUERIES);
                b1 = add_quad(b1, y, z, GRAD, rows, grads, slice + 4u, QUERIES);
            }
            if (SLICE > 8u) {
                a2 = add_quad(a2, x, u, QKV, rows, queries, slice + 8u, QUERIES);
                b2 = add_quad(b2, y, z, GRAD, rows, grads, slice + 8u, QUERIES);
                a3 = add_quad(a3, x, u, QKV, rows, queries, slice + 12u, QUERIES);
                b3 = add_quad(b3, y, z, GRAD, rows, grads, slice + 12u, QUERIES);
            }
        }
    }
    store(head, key, slice, a0, b0);
    if (SLICE > 4u) { store(head, key, slice + 4u, a1, b1); }
    if (SLICE > 8u) { store(head, key, slice + 8u, a2, b2); store(head, key, slice + 12u, a3, b3); }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let group = group_index(wid, count);
    let head = group / (p.tiles * p.slices);
    let slice = group / p.tiles % p.slices * SLICE;
    if (head >= p.batches) { return; }
    let tile = group % p.tiles;
    let end = select(tile + 1u, (p.tokens + 4u * WORKGROUP - 1u) / (4u * WORKGROUP), WHOLE);
    if (WHOLE) { store_deltas(head, lid); }
    for (var t = tile; t < end; t++) { gradients_of_keys(head, t * 4u * WORKGROUP, slice, lid); }
}
