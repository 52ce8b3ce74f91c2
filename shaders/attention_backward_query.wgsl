// Gradient of attention's queries: dq_i = sum over keys j of dS[i,j] k_j with dS = P (dP - delta_i) scale,
// P[i,j] = exp(q_i . k_j scale - lse_i) recomputed, dP[i,j] = do_i . v_j, delta_i = o_i . do_i.
//
// q, do, dq (B, H, I, d), k, v (B, H, J, d), mask F32 (B, J), statistics F32 (B, H, 2, I): lse and delta.
//
// Work: as in attention, one invocation owns four queries and SLICE cells of their gradients in registers; keys come in
// blocks of KEYS. Matrices of scores have the keys as columns, so that the exponential takes four queries at a time.
// Cost: 2 B H I J d (2 slices + 1) FLOPs; K and V are read once per four queries, mostly from caches.

override SLICE: u32 = 8u;      // cells of a row per invocation: 4, 8 or 16, as registers allow
override KEYS: u32 = 16u;      // keys per block: 16, or 4 where keys are few and compiling would take longer than running
override WORKGROUP: u32 = 8u;
// Params, add and places stand in parts/attention.wgsl, which all three kernels of attention share.

@group(0) @binding(0) var<storage, read> q: array<Stored4>;
@group(0) @binding(1) var<storage, read> k: array<Stored4>;
@group(0) @binding(2) var<storage, read> v: array<Stored4>;
@group(0) @binding(3) var<storage, read> grad: array<Stored4>;
@group(0) @binding(4) var<storage, read> mask: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> statistics: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> dq: array<Stored4>;

fn load_q(head: u32, row: u32, cell: u32) -> mat4x4<f32> {
    let at = places(head, row, p.queries, cell);
    return mat4x4(unpack4(q[at.x]), unpack4(q[at.y]), unpack4(q[at.z]), unpack4(q[at.w]));
}
fn load_grad(head: u32, row: u32, cell: u32) -> mat4x4<f32> {
    let at = places(head, row, p.queries, cell);
    return mat4x4(unpack4(grad[at.x]), unpack4(grad[at.y]), unpack4(grad[at.z]), unpack4(grad[at.w]));
}
fn load_k(head: u32, row: u32, cell: u32) -> mat4x4<f32> {
    let at = places(head, row, p.keys, cell);
    return mat4x4(unpack4(k[at.x]), unpack4(k[at.y]), unpack4(k[at.z]), unpack4(k[at.w]));
}
fn load_v(head: u32, row: u32, cell: u32) -> mat4x4<f32> {
    let at = places(head, row, p.keys, cell);
    return mat4x4(unpack4(v[at.x]), unpack4(v[at.y]), unpack4(v[at.z]), unpack4(v[at.w]));
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

fn store(head: u32, query: u32, cell: u32, sum: mat4x4<f32>) {
    if (cell >= p.cells) { return; }
    let at = (head * p.queries + query) * p.cells + cell;
    dq[at] = pack4(sum[0]);
    if (query + 1u < p.queries) { dq[at + p.cells] = pack4(sum[1]); }
    if (query + 2u < p.queries) { dq[at + 2u * p.cells] = pack4(sum[2]); }
    if (query + 3u < p.queries) { dq[at + 3u * p.cells] = pack4(sum[3]); }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let group = group_index(wid, count);
    let head = group / (p.tiles * p.slices);
    let query = (group % p.tiles * WORKGROUP + lid) * 4u;
    let slice = group / p.tiles % p.slices * SLICE;
    if (head >= p.batches || query >= p.queries) { return; }
    let lse = statistic(head, 0u, query);
    let delta = statistic(head, 1u, query);
    var d0 = mat4x4<f32>(); var d1 = mat4x4<f32>(); var d2 = mat4x4<f32>(); var d3 = mat4x4<f32>();
    var d4 = mat4x4<f32>(); var d5 = mat4x4<f32>(); var d6 = mat4x4<f32>(); var d7 = mat4x4<f32>();
    var d8 = mat4x4<f32>(); var d9 = mat4x4<f32>(); var d10 = mat4x4<f32>(); var d11 = mat4x4<f32>();
    var d12 = mat4x4<f32>(); var d13 = mat4x4<f32>(); var d14 = mat4x4<f32>(); var d15 = mat4x4<f32>();
    for (var key = 0u; key < p.keys; key += KEYS) {
        var s0 = mat4x4<f32>(); var s1 = mat4x4<f32>(); var s2 = mat4x4<f32>(); var s3 = mat4x4<f32>();
        var g0 = mat4x4<f32>(); var g1 = mat4x4<f32>(); var g2 = mat4x4<f32>(); var g3 = mat4x4<f32>();
        for (var cell = 0u; cell < p.cells; cell++) {
            let columns = transpose(load_q(head, query, cell));
            let grads = transpose(load_grad(head, query, cell));
            s0 = add(s0, load_k(head, key, cell), columns);
            g0 = add(g0, load_v(head, key, cell), grads);
            if (KEYS > 4u) {
                s1 = add(s1, load_k(head, key + 4u, cell), columns);
                g1 = add(g1, load_v(head, key + 4u, cell), grads);
                s2 = add(s2, load_k(head, key + 8u, cell), columns);
                g2 = add(g2, load_v(head, key + 8u, cell), grads);
                s3 = add(s3, load_k(head, key + 12u, cell), columns);
                g3 = add(g3, load_v(head, key + 12u, cell), grads);
            }
        }
        s0 = slopes(s0, g0, lse, delta, live_keys(head, key));
        if (KEYS > 4u) {
            s1 = slopes(s1, g1, lse, delta, live_keys(head, key + 4u));
            s2 = slopes(s2, g2, lse, delta, live_keys(head, key + 8u));
            s3 = slopes(s3, g3, lse, delta, live_keys(head, key + 12u));
        }
        // The blocks take turns in s0, so that the text of their products stands here once.
        for (var at = key; at < min(key + KEYS, p.keys); at += 4u) {
            let w = s0;
            s0 = s1; s1 = s2; s2 = s3;
            d0 = add(d0, w, load_k(head, at, slice)); d1 = add(d1, w, load_k(head, at, slice + 1u));
            d2 = add(d2, w, load_k(head, at, slice + 2u)); d3 = add(d3, w, load_k(head, at, slice + 3u));
            if (SLICE > 4u) {
                d4 = add(d4, w, load_k(head, at, slice + 4u)); d5 = add(d5, w, load_k(head, at, slice + 5u));
                d6 = add(d6, w, load_k(head, at, slice + 6u)); d7 = add(d7, w, load_k(head, at, slice + 7u));
            }
            if (SLICE > 8u) {
                d8 = add(d8, w, load_k(head, at, slice + 8u)); d9 = add(d9, w, load_k(head, at, slice + 9u));
                d10 = add(d10, w, load_k(head, at, slice + 10u)); d11 = add(d11, w, load_k(head, at, slice + 11u));
                d12 = add(d12, w, load_k(head, at, slice + 12u)); d13 = add(d13, w, load_k(head, at, slice + 13u));
                d14 = add(d14, w, load_k(head, at, slice + 14u)); d15 = add(d15, w, load_k(head, at, slice + 15u));
            }
        }
    }
    store(head, query, slice, d0); store(head, query, slice + 1u, d1);
    store(head, query, slice + 2u, d2); store(head, query, slice + 3u, d3);
    if (SLICE > 4u) {
        store(head, query, slice + 4u, d4); store(head, query, slice + 5u, d5);
        store(head, query, slice + 6u, d6); store(head, query, slice + 7u, d7);
    }
    if (SLICE > 8u) {
        store(head, query, slice + 8u, d8); store(head, query, slice + 9u, d9);
        store(head, query, slice + 10u, d10); store(head, query, slice + 11u, d11);
        store(head, query, slice + 12u, d12); store(head, query, slice + 13u, d13);
        store(head, query, slice + 14u, d14); store(head, query, slice + 15u, d15);
    }
}
