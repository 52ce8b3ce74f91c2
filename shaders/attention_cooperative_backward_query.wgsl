// Gradient of attention's queries (attention_backward_query.wgsl has the formula, shapes and masks) for halves through the
// device's cooperative matrices, sums in f32. Needs native halves and subgroups of a known size; MATRIX is 16 or 8.
//
// Work: as in attention_cooperative; the two invocations of a query turn its row of scores into probabilities P, then that of
// dP = do v^T into slopes dS, halves both, in the same place. Own rows are copied anew for each of the two products, so that
// one of them at a time lies in workgroup memory. Nothing rescales sums here, so they stay in the matrices of their subgroup to the end.
// Cost, d 64, MATRIX 16, 64 queries: 6 B H N N d FLOPs. Workgroup memory: 56 KiB for a strip of 16 queries and 64 keys, 393,216
// FLOPs, 7 per byte: 195 TFLOP/s on 132 processors with 128 bytes a clock at 1.7 GHz. Device memory or cache: 40 KiB for
// 1,572,864 FLOPs, 38 per byte. Not measured.

@group(0) @binding(0) var<storage, read> qkv: array<Stored4>;
@group(0) @binding(1) var<storage, read> o: array<Stored4>;
@group(0) @binding(2) var<storage, read> grad: array<Stored4>;
@group(0) @binding(3) var<storage, read> mask: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> lse: array<f32>;
@group(0) @binding(5) var<storage, read_write> dqkv: array<Stored4>;
@group(0) @binding(6) var<storage, read_write> delta: array<f32>;

const QKV = 0u;
const GRAD = 1u;

fn row_stride(buffer: u32) -> u32 { return select(3u, 1u, buffer == GRAD) * p.row; }

fn buffer_cell(buffer: u32, at: u32) -> vec4<f16> {
    if (buffer == GRAD) { return grad[at]; }
    return qkv[at];
}

// An invocation's part of o . do of one row: the sum over all keys of P dP, without a pass over them.
fn row_delta(row: u32, odd: u32) -> f32 {
    var sum = vec4(0.0);
    for (var i = row + odd; i < row + p.cells; i += 2u) { sum += unpack4(o[i]) * unpack4(grad[i]); }
    return sum.x + sum.y + sum.z + sum.w;
}

// Probabilities of one query, from its row of scores; 0 where a key is not there or masked. A row without keys has an enormous
// log-sum-exp: exp gives 0.
fn put_probabilities(row: u32, odd: u32, head: u32, first: u32, cells: u32, log_sum: f32) {
    for (var cell = odd; cell < cells; cell += 2u) {
        let w = exp(product(row, cell) * p.scale - log_sum); let key = first + 4u * cell;
        let at = WEIGHTS + row * WEIGHTS_ROW + cell;
        if (p.masked == 0u && key + 4u <= p.tokens) { stage(at, vec4<f16>(w)); continue; }
        var live = vec4(key) + vec4(0u, 1u, 2u, 3u) < vec4(p.tokens);
        if (p.masked != 0u && live.x) { live = live & (mask[head / p.heads * ((p.tokens + 3u) / 4u) + key / 4u] != vec4(0.0)); }
        stage(at, vec4<f16>(select(vec4(0.0), w, live)));
    }
}

// dS takes the place of P. Rows past the end repeat the last one, and their P is 0.
fn put_slopes(row: u32, odd: u32, cells: u32, mean: f32) {
    for (var cell = odd; cell < cells; cell += 2u) {
        let at = WEIGHTS + row * WEIGHTS_ROW + cell;
        let w = vec4<f32>(staged(at));
        let slope = w * (product(row, cell) - mean) * p.scale;
        stage(at, vec4<f16>(select(slope, vec4(0.0), w == vec4(0.0))));
    }
}

// An invocation's part of what was handed over, to the row of dqkv from cell `to` on.
fn store(to: u32, slice: u32, row: u32, odd: u32) {
    for (var cell = odd; cell < MATRIX && slice + cell < p.cells; cell += 2u) { dqkv[to + slice + cell] = pack4(product(row, cell)); }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32, @builtin(subgroup_id) group: u32) {
    let tile = wid.x + wid.y * count.x;  // group_index, in place: what follows must be seen to be uniform
    let head = tile / (p.tiles * p.slices);
    if (head >= p.batches) { return; }
    let query = tile % p.tiles * ROWS;
    let own = min(ROWS, p.tokens - query);
    let slice = tile / p.tiles % p.slices * MATRIX;
    let row = lid / 2u; let odd = lid % 2u; let unit = select(UNITS, group, group < GROUPS);
    let mine = min(query + row, p.tokens - 1u);
    let rows = (p.tokens + 3u) / 4u * 4u;  // of the statistics: whole cells, the rest 0
    let log_sum = lse[head * rows + mine];
    let part = row_delta(row_of(head, mine, 1u, 0u), odd);
    let mean = part + subgroupShuffleXor(part, 1u);
    let queries = row_of(head, 0u, 3u, Q);
    let keys = queries + p.row;
    let values = keys + p.row;
    let grads = row_of(head, 0u, 1u, 0u);
    var a0 = MatrixC(); var b0 = MatrixC(); var c0 = MatrixC(); var d0 = MatrixC();
    var a1 = MatrixC(); var b1 = MatrixC(); var c1 = MatrixC(); var d1 = MatrixC();
    for (var key = 0u; key < p.tokens; key += BLOCK) {
        let others = min(BLOCK, p.tokens - key);
        let cells = whole(others) / 4u;
        copy_rows(QKV, queries, query, 0u, whole(own), lid);
        copy_rows(QKV, keys, key, OTHER, whole(others), lid);
        workgroupBarrier();
        multiply_rows(unit, own, others);
        workgroupBarrier();
        copy_rows(GRAD, grads, query, 0u, whole(own), lid);
        copy_rows(QKV, values, key, OTHER, whole(others), lid);
        if (row < own) { put_probabilities(row, odd, head, key, cells, log_sum); }
        workgroupBarrier();
        multiply_rows(unit, own, others);
        workgroupBarrier();
        copy_rows(QKV, keys, key, OTHER, whole(others), lid);
        if (row < own) { put_slopes(row, odd, cells, mean); }
        workgroupBarrier();
        weigh_rows(unit, own, others, slice, &a0, &b0, &c0, &d0);
        if (UNITS > GROUPS) { weigh_rows(unit + GROUPS, own, others, slice, &a1, &b1, &c1, &d1); }
        workgroupBarrier();
    }
    hand_results(unit, own, slice, a0, b0, c0, d0);
    if (UNITS > GROUPS) { hand_results(unit + GROUPS, own, slice, a1, b1, c1, d1); }
    workgroupBarrier();
    if (slice + odd == 0u && query + row < rows) {
        delta[head * rows + query + row] = select(0.0, mean, query + row < p.tokens);
    }
    if (query + row >= p.tokens) { return; }
    let to = row_of(head, query + row, 3u, Q);
    store(to, slice, row, odd);
}
