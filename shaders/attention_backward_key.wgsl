// Gradients of attention's keys and values: dv_j = sum over queries i of P[i,j] do_i, dk_j = sum over i of dS[i,j] q_i,
// dS = P (dP - delta_i) scale, P[i,j] = exp(q_i . k_j scale - lse_i) recomputed, dP[i,j] = do_i . v_j.
//
// qkv, dqkv (B, N, 3 H d), of which dk and dv are the second and third part and nothing else is written, do (B, N, H d), d a
// multiple of 4, mask F32 (B, N), lse, delta F32 (B, H, N).
//
// Work: one invocation owns four keys and SLICE cells of both gradients in registers; queries come in blocks of QUERIES,
// loaded for all invocations of a group at once, and are the columns of the matrices of scores.
// Cost: 4 B H N N d (slices + 1) FLOPs; q and do are read once per four keys, mostly from caches.

override SLICE: u32 = 8u;      // cells of a row per invocation: 4, 8 or 16, as registers allow
override QUERIES: u32 = 16u;   // queries per block: 4, 8 or 16, as registers allow
override WORKGROUP: u32 = 8u;
// Params and row_of stand in parts/attention_params.wgsl, add and own_rows in parts/attention.wgsl.

@group(0) @binding(0) var<storage, read> qkv: array<Stored4>;
@group(0) @binding(1) var<storage, read> grad: array<Stored4>;
@group(0) @binding(2) var<storage, read> mask: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> lse: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> delta: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> dqkv: array<Stored4>;

const QKV = 0u;
const GRAD = 1u;

// Where a query's row lies behind the first one, in do; three times as far in qkv. Past the end the last one repeats: it gets
// no weight.
fn place(query: u32) -> u32 { return min(query, p.tokens - 1u) * p.row; }

fn cell(operand: u32, place: u32, offset: u32) -> vec4<f32> {
    if (operand == QKV) { return unpack4(qkv[3u * place + offset]); }
    return unpack4(grad[place + offset]);
}

fn load(at: vec4<u32>) -> mat4x4<f32> {
    return mat4x4(unpack4(qkv[at.x]), unpack4(qkv[at.y]), unpack4(qkv[at.z]), unpack4(qkv[at.w]));
}

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

fn store_cell(head: u32, key: u32, cell: u32, a: mat4x4<f32>, b: mat4x4<f32>) {
    if (cell >= p.cells || key >= p.tokens) { return; }
    let at = row_of(head, key, 3u, K) + 3u * p.row * vec4(0u, 1u, 2u, 3u) + cell;
    let next = at + p.row;
    dqkv[at.x] = pack4(a[0]); dqkv[next.x] = pack4(b[0]);
    if (key + 1u < p.tokens) { dqkv[at.y] = pack4(a[1]); dqkv[next.y] = pack4(b[1]); }
    if (key + 2u < p.tokens) { dqkv[at.z] = pack4(a[2]); dqkv[next.z] = pack4(b[2]); }
    if (key + 3u < p.tokens) { dqkv[at.w] = pack4(a[3]); dqkv[next.w] = pack4(b[3]); }
}

fn store(head: u32, key: u32, cell: u32, a: Quad, b: Quad) {
    store_cell(head, key, cell, a.a, b.a);
    store_cell(head, key, cell + 1u, a.b, b.b);
    store_cell(head, key, cell + 2u, a.c, b.c);
    store_cell(head, key, cell + 3u, a.d, b.d);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let group = group_index(wid, count);
    let head = group / (p.tiles * p.slices);
    let key = (group % p.tiles * WORKGROUP + lid) * 4u;
    let slice = group / p.tiles % p.slices * SLICE;
    if (head >= p.batches) { return; }
    var live = vec4(key) + vec4(0u, 1u, 2u, 3u) < vec4(p.tokens);
    if (p.masked != 0u && live.x) { live = live & (mask[head / p.heads * ((p.tokens + 3u) / 4u) + key / 4u] != vec4(0.0)); }
    var a0 = Quad(); var a1 = Quad(); var a2 = Quad(); var a3 = Quad();
    var b0 = Quad(); var b1 = Quad(); var b2 = Quad(); var b3 = Quad();
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
            let x = transpose(slopes(w, g.a, head, at)); let u = transpose(slopes(v, g.b, head, at + 4u));
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
