// Gradient of attention's queries (attention_backward_query.wgsl has the formula, shapes and masks) for halves through the
// device's cooperative matrices, sums in f32. Needs native halves and subgroups of one size; MATRIX is 16 or 8.
//
// Work: as in attention_cooperative; one invocation per query turns its row of scores into probabilities P, then that of
// dP = do v^T into slopes dS, halves both, in the same place. Own rows are copied anew for each of the two products, so that
// one of them at a time lies in workgroup memory.
// Cost, d 64, MATRIX 16, 64 queries: 6 B H I J d FLOPs. Workgroup memory: 76 KiB for a strip of 16 queries and 64 keys, 393,216
// FLOPs, 5 per byte: 150 TFLOP/s on 132 processors with 128 bytes a clock at 1.7 GHz. Device memory or cache: 40 KiB for
// 1,572,864 FLOPs, 38 per byte. Not measured.

@group(0) @binding(0) var<storage, read> q: array<Stored4>;
@group(0) @binding(1) var<storage, read> k: array<Stored4>;
@group(0) @binding(2) var<storage, read> v: array<Stored4>;
@group(0) @binding(3) var<storage, read> grad: array<Stored4>;
@group(0) @binding(4) var<storage, read> mask: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read> statistics: array<f32>;
@group(0) @binding(6) var<storage, read_write> dq: array<Stored4>;

const Q = 0u;
const K = 1u;
const V = 2u;
const GRAD = 3u;

fn operand_cell(operand: u32, at: u32) -> vec4<f16> {
    if (operand == Q) { return q[at]; }
    if (operand == K) { return k[at]; }
    if (operand == V) { return v[at]; }
    return grad[at];
}

// Which of four keys count: those that exist and are not masked.
fn live_keys(head: u32, key: u32) -> vec4<bool> {
    let inside = vec4(key) + vec4(0u, 1u, 2u, 3u) < vec4(p.keys);
    if (p.masked == 0u || !inside.x) { return inside; }
    return inside & (mask[head / p.heads * ((p.keys + 3u) / 4u) + key / 4u] != vec4(0.0));
}

// A query's statistic: 0 the log-sum-exp, 1 the sum over d of o do.
fn statistic(head: u32, which: u32, query: u32) -> f32 {
    return statistics[(2u * head + which) * ((p.queries + 3u) / 4u * 4u) + min(query, p.queries - 1u)];
}

// Probabilities of one query, from its row of scores. A row without keys has an enormous log-sum-exp: exp gives 0.
fn put_probabilities(row: u32, head: u32, key: u32, lse: f32) {
    for (var cell = 0u; cell < MATRIX; cell++) {
        let w = exp(product(row, cell) * p.scale - lse);
        stage(WEIGHTS + row * WEIGHTS_ROW + cell, vec4<f16>(select(vec4(0.0), w, live_keys(head, key + 4u * cell))));
    }
}

// dS takes the place of P; a key past the block's last pair of matrices has a product left from before, and P is 0.
fn put_slopes(row: u32, delta: f32) {
    for (var cell = 0u; cell < MATRIX; cell++) {
        let at = WEIGHTS + row * WEIGHTS_ROW + cell;
        let w = vec4<f32>(staged(at));
        let slope = w * (product(row, cell) - delta) * p.scale;
        stage(at, vec4<f16>(select(slope, vec4(0.0), w == vec4(0.0))));
    }
}

fn store(to: u32, slice: u32, cell: u32, sum: mat4x4<f32>) {
    for (var i = 0u; i < 4u; i++) {
        if (slice + cell + i < p.cells) { dq[to + slice + cell + i] = pack4(sum[i]); }
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32, @builtin(subgroup_id) group: u32) {
    let tile = wid.x + wid.y * count.x;  // group_index, in place: what follows must be seen to be uniform
    let head = tile / (p.tiles * p.slices);
    if (head >= p.batches) { return; }
    let query = tile % p.tiles * WORKGROUP;
    let own = min(WORKGROUP, p.queries - query);
    let slice = tile / p.tiles % p.slices * MATRIX;
    let lse = statistic(head, 0u, query + lid);
    let delta = statistic(head, 1u, query + lid);
    var sum = Sums();
    for (var key = 0u; key < p.keys; key += BLOCK) {
        let others = min(BLOCK, p.keys - key);
        copy_rows(Q, 0u, WORKGROUP, head, query, p.queries, lid);
        copy_rows(K, OTHER, BLOCK, head, key, p.keys, lid);
        workgroupBarrier();
        multiply_rows(group, own, others);
        workgroupBarrier();
        copy_rows(GRAD, 0u, WORKGROUP, head, query, p.queries, lid);
        copy_rows(V, OTHER, BLOCK, head, key, p.keys, lid);
        put_probabilities(lid, head, key, lse);
        workgroupBarrier();
        multiply_rows(group, own, others);
        workgroupBarrier();
        copy_rows(K, OTHER, BLOCK, head, key, p.keys, lid);
        put_slopes(lid, delta);
        workgroupBarrier();
        weigh_rows(group, own, others, slice);
        workgroupBarrier();
        sum = grown(sum, 1.0, lid);
    }
    if (query + lid >= p.queries) { return; }
    let to = (head * p.queries + query + lid) * p.cells;
    store(to, slice, 0u, sum.a);
    store(to, slice, 4u, sum.b);
    if (MATRIX > 8u) { store(to, slice, 8u, sum.c); store(to, slice, 12u, sum.d); }
}
