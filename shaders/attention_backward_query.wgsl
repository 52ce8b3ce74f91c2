// Gradient of attention's queries: dq_i = sum over keys j of dS[i,j] k_j with dS = P (dP - delta_i) scale,
// P[i,j] = exp(q_i . k_j scale - lse_i) recomputed, dP[i,j] = do_i . v_j, delta_i = o_i . do_i.
//
// q, do, dq (B, H, I, d), k, v (B, H, J, d), mask F32 (B, J), statistics F32 (B, H, 2, I): lse and delta.
//
// Work: as in attention, one invocation owns four queries and SLICE cells of their gradients in registers; keys come in
// blocks of 8. Matrices of scores have the keys as columns, so that the exponential takes four queries at a time.
// Cost: 2 B H I J d (2 slices + 1) FLOPs; K and V are read once per four queries, mostly from caches.

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
@group(0) @binding(6) var<storage, read_write> dq: array<Stored4>;

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

struct Step { head: u32, key: u32, w0: mat4x4<f32>, w1: mat4x4<f32> }

fn grow(sum: mat4x4<f32>, s: Step, cell: u32) -> mat4x4<f32> {
    return add(add(sum, s.w0, load_k(s.head, s.key, cell)), s.w1, load_k(s.head, s.key + 4u, cell));
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
    for (var key = 0u; key < p.keys; key += 8u) {
        var s0 = mat4x4<f32>(); var s1 = mat4x4<f32>();
        var g0 = mat4x4<f32>(); var g1 = mat4x4<f32>();
        for (var cell = 0u; cell < p.cells; cell++) {
            let columns = transpose(load_q(head, query, cell));
            let grads = transpose(load_grad(head, query, cell));
            s0 = add(s0, load_k(head, key, cell), columns);
            s1 = add(s1, load_k(head, key + 4u, cell), columns);
            g0 = add(g0, load_v(head, key, cell), grads);
            g1 = add(g1, load_v(head, key + 4u, cell), grads);
        }
        let step = Step(head, key, slopes(s0, g0, lse, delta, live_keys(head, key)),
            slopes(s1, g1, lse, delta, live_keys(head, key + 4u)));
        d0 = grow(d0, step, slice); d1 = grow(d1, step, slice + 1u);
        d2 = grow(d2, step, slice + 2u); d3 = grow(d3, step, slice + 3u);
        if (SLICE > 4u) {
            d4 = grow(d4, step, slice + 4u); d5 = grow(d5, step, slice + 5u);
            d6 = grow(d6, step, slice + 6u); d7 = grow(d7, step, slice + 7u);
        }
    }
    store(head, query, slice, d0); store(head, query, slice + 1u, d1);
    store(head, query, slice + 2u, d2); store(head, query, slice + 3u, d3);
    if (SLICE > 4u) {
        store(head, query, slice + 4u, d4); store(head, query, slice + 5u, d5);
        store(head, query, slice + 6u, d6); store(head, query, slice + 7u, d7);
    }
}
