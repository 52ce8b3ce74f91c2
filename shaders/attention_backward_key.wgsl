// Gradients of attention's keys and values: dv_j = sum over queries i of P[i,j] do_i, dk_j = sum over i of dS[i,j] q_i,
// dS = P (dP - delta_i) scale, P[i,j] = exp(q_i . k_j scale - lse_i) recomputed, dP[i,j] = do_i . v_j.
//
// q, do (B, H, I, d), k, v, dk, dv (B, H, J, d), mask F32 (B, J), statistics F32 (B, H, 2, I): lse and delta.
//
// Work: one invocation owns four keys and SLICE cells of both gradients in registers; queries come in blocks of QUERIES and
// are the columns of the matrices of scores.
// Cost: 4 B H I J d (slices + 1) FLOPs; q and do are read once per four keys, mostly from caches.

override SLICE: u32 = 8u;      // cells of a row per invocation: 4, 8 or 16, as registers allow
override QUERIES: u32 = 16u;   // queries per block: 16, or 4 where they are few and compiling would take longer than running
override WORKGROUP: u32 = 8u;
// Params, add and places stand in parts/attention.wgsl, which all three kernels of attention share.

@group(0) @binding(0) var<storage, read> q: array<Stored4>;
@group(0) @binding(1) var<storage, read> k: array<Stored4>;
@group(0) @binding(2) var<storage, read> v: array<Stored4>;
@group(0) @binding(3) var<storage, read> grad: array<Stored4>;
@group(0) @binding(4) var<storage, read> mask: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> statistics: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> dk: array<Stored4>;
@group(0) @binding(7) var<storage, read_write> dv: array<Stored4>;

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

fn statistic(head: u32, which: u32, query: u32) -> vec4<f32> {
    return statistics[(2u * head + which) * ((p.queries + 3u) / 4u) + min(query, p.queries - 1u) / 4u];
}

// P of four queries, each for four keys. Queries past the end get an enormous log-sum-exp, and so no weight.
fn probabilities(s: mat4x4<f32>, head: u32, query: u32, live: vec4<bool>) -> mat4x4<f32> {
    let inside = vec4(query) + vec4(0u, 1u, 2u, 3u) < vec4(p.queries);
    let lse = select(vec4(3.0e38), statistic(head, 0u, query), inside);
    let e = mat4x4(exp(s[0] * p.scale - lse.x), exp(s[1] * p.scale - lse.y), exp(s[2] * p.scale - lse.z),
        exp(s[3] * p.scale - lse.w));
    let none = vec4(0.0);
    return mat4x4(select(none, e[0], live), select(none, e[1], live), select(none, e[2], live),
        select(none, e[3], live));
}

fn slopes(w: mat4x4<f32>, g: mat4x4<f32>, head: u32, query: u32) -> mat4x4<f32> {
    let d = statistic(head, 1u, query);
    return p.scale * mat4x4(w[0] * (g[0] - d.x), w[1] * (g[1] - d.y), w[2] * (g[2] - d.z), w[3] * (g[3] - d.w));
}

fn store(head: u32, key: u32, cell: u32, a: mat4x4<f32>, b: mat4x4<f32>) {
    if (cell >= p.cells) { return; }
    let next = (head * p.keys + key + vec4(0u, 1u, 2u, 3u)) * p.cells + cell;
    dk[next.x] = pack4(a[0]); dv[next.x] = pack4(b[0]);
    if (key + 1u < p.keys) { dk[next.y] = pack4(a[1]); dv[next.y] = pack4(b[1]); }
    if (key + 2u < p.keys) { dk[next.z] = pack4(a[2]); dv[next.z] = pack4(b[2]); }
    if (key + 3u < p.keys) { dk[next.w] = pack4(a[3]); dv[next.w] = pack4(b[3]); }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let group = group_index(wid, count);
    let head = group / (p.tiles * p.slices);
    let key = (group % p.tiles * WORKGROUP + lid) * 4u;
    let slice = group / p.tiles % p.slices * SLICE;
    if (head >= p.batches || key >= p.keys) { return; }
    var live = vec4(key) + vec4(0u, 1u, 2u, 3u) < vec4(p.keys);
    if (p.masked != 0u && live.x) { live = live & (mask[head / p.heads * ((p.keys + 3u) / 4u) + key / 4u] != vec4(0.0)); }
    var a0 = mat4x4<f32>(); var a1 = mat4x4<f32>(); var a2 = mat4x4<f32>(); var a3 = mat4x4<f32>();
    var a4 = mat4x4<f32>(); var a5 = mat4x4<f32>(); var a6 = mat4x4<f32>(); var a7 = mat4x4<f32>();
    var b0 = mat4x4<f32>(); var b1 = mat4x4<f32>(); var b2 = mat4x4<f32>(); var b3 = mat4x4<f32>();
    var b4 = mat4x4<f32>(); var b5 = mat4x4<f32>(); var b6 = mat4x4<f32>(); var b7 = mat4x4<f32>();
    var a8 = mat4x4<f32>(); var a9 = mat4x4<f32>(); var a10 = mat4x4<f32>(); var a11 = mat4x4<f32>();
    var a12 = mat4x4<f32>(); var a13 = mat4x4<f32>(); var a14 = mat4x4<f32>(); var a15 = mat4x4<f32>();
    var b8 = mat4x4<f32>(); var b9 = mat4x4<f32>(); var b10 = mat4x4<f32>(); var b11 = mat4x4<f32>();
    var b12 = mat4x4<f32>(); var b13 = mat4x4<f32>(); var b14 = mat4x4<f32>(); var b15 = mat4x4<f32>();
    for (var query = 0u; query < p.queries; query += QUERIES) {
        var s0 = mat4x4<f32>(); var s1 = mat4x4<f32>(); var s2 = mat4x4<f32>(); var s3 = mat4x4<f32>();
        var g0 = mat4x4<f32>(); var g1 = mat4x4<f32>(); var g2 = mat4x4<f32>(); var g3 = mat4x4<f32>();
        for (var cell = 0u; cell < p.cells; cell++) {
            let columns = transpose(load_k(head, key, cell));
            let values = transpose(load_v(head, key, cell));
            s0 = add(s0, load_q(head, query, cell), columns);
            g0 = add(g0, load_grad(head, query, cell), values);
            if (QUERIES > 4u) {
                s1 = add(s1, load_q(head, query + 4u, cell), columns);
                g1 = add(g1, load_grad(head, query + 4u, cell), values);
                s2 = add(s2, load_q(head, query + 8u, cell), columns);
                g2 = add(g2, load_grad(head, query + 8u, cell), values);
                s3 = add(s3, load_q(head, query + 12u, cell), columns);
                g3 = add(g3, load_grad(head, query + 12u, cell), values);
            }
        }
        // The blocks take turns in s0 and g0, so that the text of their products stands here once.
        for (var at = query; at < min(query + QUERIES, p.queries); at += 4u) {
            let w = probabilities(s0, head, at, live);
            let x = transpose(slopes(w, g0, head, at)); let y = transpose(w);
            s0 = s1; s1 = s2; s2 = s3; g0 = g1; g1 = g2; g2 = g3;
            a0 = add(a0, x, load_q(head, at, slice)); b0 = add(b0, y, load_grad(head, at, slice));
            a1 = add(a1, x, load_q(head, at, slice + 1u)); b1 = add(b1, y, load_grad(head, at, slice + 1u));
            a2 = add(a2, x, load_q(head, at, slice + 2u)); b2 = add(b2, y, load_grad(head, at, slice + 2u));
            a3 = add(a3, x, load_q(head, at, slice + 3u)); b3 = add(b3, y, load_grad(head, at, slice + 3u));
            if (SLICE > 4u) {
                a4 = add(a4, x, load_q(head, at, slice + 4u)); b4 = add(b4, y, load_grad(head, at, slice + 4u));
                a5 = add(a5, x, load_q(head, at, slice + 5u)); b5 = add(b5, y, load_grad(head, at, slice + 5u));
                a6 = add(a6, x, load_q(head, at, slice + 6u)); b6 = add(b6, y, load_grad(head, at, slice + 6u));
                a7 = add(a7, x, load_q(head, at, slice + 7u)); b7 = add(b7, y, load_grad(head, at, slice + 7u));
            }
            if (SLICE > 8u) {
                a8 = add(a8, x, load_q(head, at, slice + 8u)); b8 = add(b8, y, load_grad(head, at, slice + 8u));
                a9 = add(a9, x, load_q(head, at, slice + 9u)); b9 = add(b9, y, load_grad(head, at, slice + 9u));
                a10 = add(a10, x, load_q(head, at, slice + 10u)); b10 = add(b10, y, load_grad(head, at, slice + 10u));
                a11 = add(a11, x, load_q(head, at, slice + 11u)); b11 = add(b11, y, load_grad(head, at, slice + 11u));
                a12 = add(a12, x, load_q(head, at, slice + 12u)); b12 = add(b12, y, load_grad(head, at, slice + 12u));
                a13 = add(a13, x, load_q(head, at, slice + 13u)); b13 = add(b13, y, load_grad(head, at, slice + 13u));
                a14 = add(a14, x, load_q(head, at, slice + 14u)); b14 = add(b14, y, load_grad(head, at, slice + 14u));
                a15 = add(a15, x, load_q(head, at, slice + 15u)); b15 = add(b15, y, load_grad(head, at, slice + 15u));
            }
        }
    }
    store(head, key, slice, a0, b0); store(head, key, slice + 1u, a1, b1);
    store(head, key, slice + 2u, a2, b2); store(head, key, slice + 3u, a3, b3);
    if (SLICE > 4u) {
        store(head, key, slice + 4u, a4, b4); store(head, key, slice + 5u, a5, b5);
        store(head, key, slice + 6u, a6, b6); store(head, key, slice + 7u, a7, b7);
    }
    if (SLICE > 8u) {
        store(head, key, slice + 8u, a8, b8); store(head, key, slice + 9u, a9, b9);
        store(head, key, slice + 10u, a10, b10); store(head, key, slice + 11u, a11, b11);
        store(head, key, slice + 12u, a12, b12); store(head, key, slice + 13u, a13, b13);
        store(head, key, slice + 14u, a14, b14); store(head, key, slice + 15u, a15, b15);
    }
}
