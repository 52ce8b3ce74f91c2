// Gradient of attention's queries: dq_i = sum over keys j of dS[i,j] k_j with dS = P (dP - delta_i) scale,
// P[i,j] = exp(q_i . k_j scale - lse_i) recomputed, dP[i,j] = do_i . v_j, delta_i = o_i . do_i.
//
// q, do, dq (B, H, I, d), k, v (B, H, J, d), mask F32 (B, J), statistics F32 (B, H, 2, I): lse and delta.
//
// Work: as in attention, one invocation owns four queries and SLICE cells of their gradients in registers; keys come in
// blocks of KEYS, loaded for all invocations of a group at once. Matrices of scores have the keys as columns, so that the
// exponential takes four queries at a time.
// Cost: 2 B H I J d (2 slices + 1) FLOPs; K and V are read once per four queries, mostly from caches.

override SLICE: u32 = 8u;      // cells of a row per invocation: 4, 8 or 16, as registers allow
override KEYS: u32 = 16u;      // keys per block: 4, 8 or 16, as registers allow
override WORKGROUP: u32 = 8u;
// Params and add stand in parts/attention.wgsl, which all three kernels of attention share.

@group(0) @binding(0) var<storage, read> q: array<Stored4>;
@group(0) @binding(1) var<storage, read> k: array<Stored4>;
@group(0) @binding(2) var<storage, read> v: array<Stored4>;
@group(0) @binding(3) var<storage, read> grad: array<Stored4>;
@group(0) @binding(4) var<storage, read> mask: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> statistics: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> dq: array<Stored4>;

const K = 0u;
const V = 1u;

// Where a key lies in its head. Past the end the last one repeats: it gets no weight.
fn place(key: u32) -> u32 { return min(key, p.keys - 1u) * p.cells; }

fn cell(operand: u32, place: u32, offset: u32) -> vec4<f32> {
    if (operand == K) { return unpack4(k[place + offset]); }
    return unpack4(v[place + offset]);
}

fn load_q(head: u32, row: u32, cell: u32) -> mat4x4<f32> {
    let at = own_places(head, row, p.queries, cell);
    return mat4x4(unpack4(q[at.x]), unpack4(q[at.y]), unpack4(q[at.z]), unpack4(q[at.w]));
}
fn load_grad(head: u32, row: u32, cell: u32) -> mat4x4<f32> {
    let at = own_places(head, row, p.queries, cell);
    return mat4x4(unpack4(grad[at.x]), unpack4(grad[at.y]), unpack4(grad[at.z]), unpack4(grad[at.w]));
}

// Which of four keys count: those that exist and are not masked.
fn live_keys(head: u32, key: u32) -> vec4<bool> {
    let inside = vec4(key) + vec4(0u, 1u, 2u, 3u) < vec4(p.keys);
    if (p.masked == 0u || !inside.x) { return inside; }
    return inside & (mask[head / p.heads * ((p.keys + 3u) / 4u) + key / 4u] != vec4(0.0));
}

// One cell of the rows' statistics: 0 the log-sum-exp, 1 the sum over d of o do.
fn statistic(head: u32, which: u32, query: u32) -> vec4<f32> {
    return statistics[(2u * head + which) * ((p.queries + 3u) / 4u) + min(query, p.queries - 1u) / 4u];
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
    if (cell >= p.cells || query >= p.queries) { return; }
    let at = (head * p.queries + query) * p.cells + cell;
    dq[at] = pack4(sum[0]);
    if (query + 1u < p.queries) { dq[at + p.cells] = pack4(sum[1]); }
    if (query + 2u < p.queries) { dq[at + 2u * p.cells] = pack4(sum[2]); }
    if (query + 3u < p.queries) { dq[at + 3u * p.cells] = pack4(sum[3]); }
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
    let lse = statistic(head, 0u, query);
    let delta = statistic(head, 1u, query);
    var d0 = Quad(); var d1 = Quad(); var d2 = Quad(); var d3 = Quad();
    let base = head * p.keys * p.cells;
    for (var key = 0u; key < p.keys; key += KEYS) {
        var s = Quad(); var g = Quad();
        let first = places(key, lid);
        let second = places(key + 8u, lid);
        for (var cell = 0u; cell < p.cells; cell++) {
            let columns = transpose(load_q(head, query, cell));
            let grads = transpose(load_grad(head, query, cell));
            s = grow_scores(s, columns, K, first, second, base + cell, KEYS);
            g = grow_scores(g, grads, V, first, second, base + cell, KEYS);
        }
        // Eight keys at a time take the first ones' place, so that the text of their products stands here once.
        for (var at = key; at < min(key + KEYS, p.keys); at += 8u) {
            let w = slopes(s.a, g.a, lse, delta, live_keys(head, at));
            var x = mat4x4<f32>();
            if (KEYS > 4u) { x = slopes(s.b, g.b, lse, delta, live_keys(head, at + 4u)); }
            s = Quad(s.c, s.d, s.c, s.d); g = Quad(g.c, g.d, g.c, g.d);
            let rows = places(at, lid);
            d0 = add_quad(d0, w, x, K, rows, base, slice, KEYS);
            if (SLICE > 4u) { d1 = add_quad(d1, w, x, K, rows, base, slice + 4u, KEYS); }
            if (SLICE > 8u) {
                d2 = add_quad(d2, w, x, K, rows, base, slice + 8u, KEYS);
                d3 = add_quad(d3, w, x, K, rows, base, slice + 12u, KEYS);
            }
        }
    }
    store(head, query, slice, d0);
    if (SLICE > 4u) { store(head, query, slice + 4u, d1); }
    if (SLICE > 8u) { store(head, query, slice + 8u, d2); store(head, query, slice + 12u, d3); }
}
