// Gradients of attention's keys and values: dv_j = sum over queries i of P[i,j] do_i, dk_j = sum over i of dS[i,j] q_i,
// dS = P (dP - delta_i) scale, P[i,j] = exp(q_i . k_j scale - lse_i) recomputed, dP[i,j] = do_i . v_j.
//
// q, do (B, H, I, d), k, v, dk, dv (B, H, J, d), mask F32 (B, J), statistics F32 (B, H, 2, I): lse and delta.
//
// Work: one invocation owns four keys and SLICE cells of both gradients in registers; queries come in blocks of 8 and
// are the columns of the matrices of scores.
// Cost: 4 B H I J d (slices + 1) FLOPs; q and do are read once per four keys, mostly from caches.

override SLICE: u32 = 8u;      // cells of a row per invocation: 4 or 8, as registers allow
override WORKGROUP: u32 = 8u;

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
@group(0) @binding(3) var<storage, read> grad: array<Stored4>;
@group(0) @binding(4) var<storage, read> mask: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> statistics: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read_write> dk: array<Stored4>;
@group(0) @binding(7) var<storage, read_write> dv: array<Stored4>;

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

// Eight queries: probabilities and their slopes, columns are keys.
struct Step { head: u32, query: u32, p0: mat4x4<f32>, p1: mat4x4<f32>, d0: mat4x4<f32>, d1: mat4x4<f32> }

fn grow_k(sum: mat4x4<f32>, s: Step, cell: u32) -> mat4x4<f32> {
    return add(add(sum, s.d0, load_q(s.head, s.query, cell)), s.d1, load_q(s.head, s.query + 4u, cell));
}

fn grow_v(sum: mat4x4<f32>, s: Step, cell: u32) -> mat4x4<f32> {
    return add(add(sum, s.p0, load_grad(s.head, s.query, cell)), s.p1, load_grad(s.head, s.query + 4u, cell));
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
    for (var query = 0u; query < p.queries; query += 8u) {
        var s0 = mat4x4<f32>(); var s1 = mat4x4<f32>(); var g0 = mat4x4<f32>(); var g1 = mat4x4<f32>();
        for (var cell = 0u; cell < p.cells; cell++) {
            let columns = transpose(load_k(head, key, cell));
            let values = transpose(load_v(head, key, cell));
            s0 = add(s0, load_q(head, query, cell), columns);
            s1 = add(s1, load_q(head, query + 4u, cell), columns);
            g0 = add(g0, load_grad(head, query, cell), values);
            g1 = add(g1, load_grad(head, query + 4u, cell), values);
        }
        let p0 = probabilities(s0, head, query, live);
        let p1 = probabilities(s1, head, query + 4u, live);
        let step = Step(head, query, transpose(p0), transpose(p1), transpose(slopes(p0, g0, head, query)),
            transpose(slopes(p1, g1, head, query + 4u)));
        a0 = grow_k(a0, step, slice); b0 = grow_v(b0, step, slice);
        a1 = grow_k(a1, step, slice + 1u); b1 = grow_v(b1, step, slice + 1u);
        a2 = grow_k(a2, step, slice + 2u); b2 = grow_v(b2, step, slice + 2u);
        a3 = grow_k(a3, step, slice + 3u); b3 = grow_v(b3, step, slice + 3u);
        if (SLICE > 4u) {
            a4 = grow_k(a4, step, slice + 4u); b4 = grow_v(b4, step, slice + 4u);
            a5 = grow_k(a5, step, slice + 5u); b5 = grow_v(b5, step, slice + 5u);
            a6 = grow_k(a6, step, slice + 6u); b6 = grow_v(b6, step, slice + 6u);
            a7 = grow_k(a7, step, slice + 7u); b7 = grow_v(b7, step, slice + 7u);
        }
    }
    store(head, key, slice, a0, b0); store(head, key, slice + 1u, a1, b1);
    store(head, key, slice + 2u, a2, b2); store(head, key, slice + 3u, a3, b3);
    if (SLICE > 4u) {
        store(head, key, slice + 4u, a4, b4); store(head, key, slice + 5u, a5, b5);
        store(head, key, slice + 6u, a6, b6); store(head, key, slice + 7u, a7, b7);
    }
}
