// Gradients of attention's keys and values (attention_backward_key.wgsl has the formula, shapes and masks) for halves through
// the device's cooperative matrices, sums in f32. Needs native halves and subgroups of a known size; MATRIX is 16 or 8.
//
// Work: as in attention_cooperative_backward_query, with keys as own rows: the two invocations of a key turn a row of
// k q^T into probabilities of all queries, which weigh do, and one of v do^T into slopes, which weigh q.
// Sums stay in the matrices of their subgroup to the end.
// Cost, d 64, MATRIX 16, 64 keys: 8 B H N N d FLOPs. Workgroup memory: 64 KiB for a strip of 16 keys and 64 queries, 524,288
// FLOPs, 8 per byte: 230 TFLOP/s on 132 processors with 128 bytes a clock at 1.7 GHz. Device memory or cache: 40 KiB for
// 2,097,152 FLOPs, 51 per byte. 64 registers of sums. Not measured.

@group(0) @binding(0) var<storage, read> qkv: array<Stored4>;
@group(0) @binding(1) var<storage, read> o: array<Stored4>;
@group(0) @binding(2) var<storage, read> grad: array<Stored4>;
@group(0) @binding(3) var<storage, read> mask: array<f32>;
@group(0) @binding(4) var<storage, read> lse: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> dqkv: array<Stored4>;
@group(0) @binding(6) var<storage, read_write> delta: array<vec4<f32>>;

const QKV = 0u;
const GRAD = 1u;

fn row_stride(buffer: u32) -> u32 { return select(3u, 1u, buffer == GRAD) * p.row; }

fn buffer_cell(buffer: u32, at: u32) -> vec4<f16> {
    if (buffer == GRAD) { return grad[at]; }
    return qkv[at];
}

// The cell of lse and of delta that holds four queries.
fn statistic(head: u32, query: u32) -> u32 {
    return head * ((p.tokens + 3u) / 4u) + min(query, p.tokens - 1u) / 4u;
}

// Probabilities of one key in each query, from its row of scores; none if the key does not count.
fn put_probabilities(row: u32, odd: u32, head: u32, query: u32, cells: u32, live: bool) {
    for (var cell = odd; cell < cells; cell += 2u) {
        let i = query + 4u * cell;
        let w = exp(product(row, cell) * p.scale - lse[statistic(head, i)]);
        let at = WEIGHTS + row * WEIGHTS_ROW + cell;
        if (live && i + 4u <= p.tokens) { stage(at, vec4<f16>(w)); continue; }
        let counts = vec4(live) & (vec4(i) + vec4(0u, 1u, 2u, 3u) < vec4(p.tokens));
        stage(at, vec4<f16>(select(vec4(0.0), w, counts)));
    }
}

// dS takes the place of P. Rows past the end repeat the last one, and their P is 0.
fn put_slopes(row: u32, odd: u32, head: u32, query: u32, cells: u32) {
    for (var cell = odd; cell < cells; cell += 2u) {
        let at = WEIGHTS + row * WEIGHTS_ROW + cell;
        let w = vec4<f32>(staged(at));
        let slope = w * (product(row, cell) - delta[statistic(head, query + 4u * cell)]) * p.scale;
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
    _ = &o;  // bound for attention_backward_key's sake, and not read
    let key = tile % p.tiles * ROWS;
    let own = min(ROWS, p.tokens - key);
    let slice = tile / p.tiles % p.slices * MATRIX;
    let row = lid / 2u; let odd = lid % 2u; let unit = select(UNITS, group, group < GROUPS);
    var live = key + row < p.tokens;
    if (p.masked != 0u && live) { live = mask[head / p.heads * ((p.tokens + 3u) / 4u * 4u) + key + row] != 0.0; }
    let queries = row_of(head, 0u, 3u, Q);
    let keys = queries + p.row;
    let values = keys + p.row;
    let grads = row_of(head, 0u, 1u, 0u);
    // dK and dV: units of this subgroup, the second one where there are more units than subgroups.
    var a0 = MatrixC(); var b0 = MatrixC(); var c0 = MatrixC(); var d0 = MatrixC();
    var a1 = MatrixC(); var b1 = MatrixC(); var c1 = MatrixC(); var d1 = MatrixC();
    var v0 = MatrixC(); var w0 = MatrixC(); var x0 = MatrixC(); var y0 = MatrixC();
    var v1 = MatrixC(); var w1 = MatrixC(); var x1 = MatrixC(); var y1 = MatrixC();
    for (var query = 0u; query < p.tokens; query += BLOCK) {
        let others = min(BLOCK, p.tokens - query);
        let cells = whole(others) / 4u;
        copy_rows(QKV, keys, key, 0u, whole(own), lid);
        copy_rows(QKV, queries, query, OTHER, whole(others), lid);
        workgroupBarrier();
        multiply_rows(unit, own, others);
        workgroupBarrier();
        copy_rows(QKV, values, key, 0u, whole(own), lid);
        copy_rows(GRAD, grads, query, OTHER, whole(others), lid);
        if (row < own) { put_probabilities(row, odd, head, query, cells, live); }
        workgroupBarrier();
        weigh_rows(unit, own, others, slice, &v0, &w0, &x0, &y0);
        if (UNITS > GROUPS) { weigh_rows(unit + GROUPS, own, others, slice, &v1, &w1, &x1, &y1); }
        multiply_rows(unit, own, others);
        workgroupBarrier();
        copy_rows(QKV, queries, query, OTHER, whole(others), lid);
        if (row < own) { put_slopes(row, odd, head, query, cells); }
        workgroupBarrier();
        weigh_rows(unit, own, others, slice, &a0, &b0, &c0, &d0);
        if (UNITS > GROUPS) { weigh_rows(unit + GROUPS, own, others, slice, &a1, &b1, &c1, &d1); }
        workgroupBarrier();
    }
    let to = row_of(head, min(key + row, p.tokens - 1u), 3u, K);
    hand_results(unit, own, slice, a0, b0, c0, d0);
    if (UNITS > GROUPS) { hand_results(unit + GROUPS, own, slice, a1, b1, c1, d1); }
    workgroupBarrier();
    if (row < own) { store(to, slice, row, odd); }
    workgroupBarrier();
    hand_results(unit, own, slice, v0, w0, x0, y0);
    if (UNITS > GROUPS) { hand_results(unit + GROUPS, own, slice, v1, w1, x1, y1); }
    workgroupBarrier();
    if (row < own) { store(to + p.row, slice, row, odd); }
}
