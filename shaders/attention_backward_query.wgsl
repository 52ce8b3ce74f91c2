// Gradient of attention's queries: dq_i = sum over keys j of dS[i,j] k_j with dS = P (dP - delta_i) scale,
// P[i,j] = exp(q_i . k_j scale - lse_i) recomputed, dP[i,j] = do_i . v_j, delta_i = o_i . do_i.
//
// qkv, dqkv (B, N, 3 H d), of which dq is the first part and nothing else is written, o, do (B, N, H d), d a multiple of 4,
// mask F32 (B, N), lse, delta F32 (B, H, N); delta is written for attention_backward_key.
//
// Work: as in attention, one invocation owns four queries and SLICE cells of their gradients in registers; keys come in
// blocks of KEYS, loaded for all invocations of a group at once. Matrices of scores have the keys as columns, so that the
// exponential takes four queries at a time.
// Cost: 2 B H N N d (2 slices + 1) FLOPs; K and V are read once per four queries, mostly from caches.

override SLICE: u32 = 8u;      // cells of a row per invocation: 4, 8 or 16, as registers allow
override KEYS: u32 = 16u;      // keys per block: 4, 8 or 16, as registers allow
override WORKGROUP: u32 = 8u;
// Params and row_of stand in parts/attention_params.wgsl, add and own_rows in parts/attention.wgsl, deltas in
// parts/attention_delta.wgsl.

@group(0) @binding(0) var<storage, read> qkv: array<Stored4>;
@group(0) @binding(1) var<storage, read> o: array<Stored4>;
@group(0) @binding(2) var<storage, read> grad: array<Stored4>;
@group(0) @binding(3) var<storage, read> mask: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> lse: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> dqkv: array<Stored4>;
@group(0) @binding(6) var<storage, read_write> delta: array<vec4<f32>>;

const QKV = 0u;

// Where a key's row lies behind the first one. Past the end the last one repeats: it gets no weight.
fn place(key: u32) -> u32 { return min(key, p.tokens - 1u) * 3u * p.row; }

fn cell(operand: u32, place: u32, offset: u32) -> vec4<f32> { return unpack4(qkv[place + offset]); }

fn load_q(at: vec4<u32>) -> mat4x4<f32> {
    return mat4x4(unpack4(qkv[at.x]), unpack4(qkv[at.y]), unpack4(qkv[at.z]), unpack4(qkv[at.w]));
}

// Which of four keys count: those that exist and are not masked.
fn live_keys(head: u32, key: u32) -> vec4<bool> {
    let inside = vec4(key) + vec4(0u, 1u, 2u, 3u) < vec4(p.tokens);
    if (p.masked == 0u || !inside.x) { return inside; }
    return inside & (mask[head / p.heads * ((p.tokens + 3u) / 4u) + key / 4u] != vec4(0.0));
}

// dS of one key for four queries. A row without keys has an enormous log-sum-exp: exp gives 0.
fn slope(s: vec4<f32>, g: vec4<f32>, lse: vec4<f32>, delta: vec4<f32>, live: bool) -> vec4<f32> {
    return select(vec4(0.0), exp(s * p.scale - lse) * (g - delta) * p.scale, live);
}

// dS of four keys, transposed: columns are queries.
fn slopes(s: mat4x4<f32>, g: mat4x4<f32>, lse: vec4<f32>, delta: vec4<f32>, live: vec4<bool>) -> mat4x4<f32> {
    return transpose(mat4x4(slope(s[0], g[0], lse, delta, live.x), slope(s[1], g[1], lse, delta, live.y),
        slope(s[2], g[2], lse, delta, live.z), slope(s[3], g[3], lse, delta, live.w)));
}

fn store_cell(head: u32, query: u32, cell: u32, sum: mat4x4<f32>) {
    if (cell >= p.cells || query >= p.tokens) { return; }
    let at = row_of(head, query, 3u, Q) + cell;
    let next = 3u * p.row;
    dqkv[at] = pack4(sum[0]);
    if (query + 1u < p.tokens) { dqkv[at + next] = pack4(sum[1]); }
    if (query + 2u < p.tokens) { dqkv[at + 2u * next] = pack4(sum[2]); }
    if (query + 3u < p.tokens) { dqkv[at + 3u * next] = pack4(sum[3]); }
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
    let own = own_rows(head, query, 3u, Q);
    let grads = own_rows(head, query, 1u, 0u);
    let statistic = head * ((p.tokens + 3u) / 4u) + min(query, p.tokens - 1u) / 4u;
    let log_sum = lse[statistic];
    let means = deltas(grads);
    var d0 = Quad(); var d1 = Quad(); var d2 = Quad(); var d3 = Quad();
    let keys = row_of(head, 0u, 3u, K);
    let values = row_of(head, 0u, 3u, V);
    for (var key = 0u; key < p.tokens; key += KEYS) {
        var s = Quad(); var g = Quad();
        let first = places(key, lid);
        let second = places(key + 8u, lid);
        for (var cell = 0u; cell < p.cells; cell++) {
            let queries = transpose(load_q(own + cell));
            let gradients = transpose(load_grad(grads + cell));
            s = grow_scores(s, queries, QKV, first, second, keys + cell, KEYS);
            g = grow_scores(g, gradients, QKV, first, second, values + cell, KEYS);
        }
        // Eight keys at a time take the first ones' place, so that the text of their products stands here once.
        for (var at = key; at < min(key + KEYS, p.tokens); at += 8u) {
            let w = slopes(s.a, g.a, log_sum, means, live_keys(head, at));
            var x = mat4x4<f32>();
            if (KEYS > 4u) { x = slopes(s.b, g.b, log_sum, means, live_keys(head, at + 4u)); }
            s = Quad(s.c, s.d, s.c, s.d); g = Quad(g.c, g.d, g.c, g.d);
            let rows = places(at, lid);
            d0 = add_quad(d0, w, x, QKV, rows, keys, slice, KEYS);
            if (SLICE > 4u) { d1 = add_quad(d1, w, x, QKV, rows, keys, slice + 4u, KEYS); }
            if (SLICE > 8u) {
                d2 = add_quad(d2, w, x, QKV, rows, keys, slice + 8u, KEYS);
                d3 = add_quad(d3, w, x, QKV, rows, keys, slice + 12u, KEYS);
            }
        }
    }
    store(head, query, slice, d0);
    if (SLICE > 4u) { store(head, query, slice + 4u, d1); }
    if (SLICE > 8u) { store(head, query, slice + 8u, d2); store(head, query, slice + 12u, d3); }
    if (slice == 0u && query < p.tokens) {
        let inside = vec4(query) + vec4(0u, 1u, 2u, 3u) < vec4(p.tokens);
        delta[statistic] = select(vec4(0.0), means, inside);
    }
}
