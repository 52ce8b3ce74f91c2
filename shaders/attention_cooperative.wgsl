// Attention (attention.wgsl has the formula, shapes and masks) for halves through the device's cooperative matrices, sums in
// f32. Needs native halves and subgroups of a known size; MATRIX is 16 or 8.
//
// Work: a workgroup owns ROWS queries of a head and a slice of BLOCK columns of their outputs. For each BLOCK of keys: scores by
// matrices; the two invocations of a query turn its row of scores into weights, halves, by the online softmax; outputs by
// matrices; the two add them to the sums in their registers, where rescaling is free. Steps are parted by barriers.
// Cost, d 64, MATRIX 16, 64 queries: 4 B H N N d FLOPs. Workgroup memory: 38 KiB are read or written for a strip of 16 queries
// and 64 keys, 262,144 FLOPs, 7 per byte: 132 processors with 128 bytes a clock at 1.7 GHz feed 195 TFLOP/s. Device memory or
// cache: 16 KiB of keys and values for 1,048,576 FLOPs, 64 per byte. 46 KB for 128 invocations: four of them in 228 KB. Not measured.

@group(0) @binding(0) var<storage, read> qkv: array<Stored4>;
@group(0) @binding(1) var<storage, read> mask: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> o: array<Stored4>;
@group(0) @binding(3) var<storage, read_write> lse: array<f32>;

const LOWEST = -3.0e38;  // below every score, yet finite: infinities would meet as inf - inf
const FLOOR = -1.0e38;   // below every score too, and far above LOWEST: no maximum is less
const NO_KEY = 3.0e38;   // log-sum-exp of a row without keys: every probability recomputed from it is 0

const QKV = 0u;

fn row_stride(buffer: u32) -> u32 { return 3u * p.row; }

fn buffer_cell(buffer: u32, at: u32) -> vec4<f16> { return qkv[at]; }

// An invocation's half of the MATRIX cells in a block of its row: scores, or sums of a slice. b is not used where there are four.
struct Cells { a: mat4x4<f32>, b: mat4x4<f32> }

// Scaled scores of four keys from `key` on: LOWEST where a key does not count.
fn score(product: vec4<f32>, head: u32, key: u32) -> vec4<f32> {
    let s = product * p.scale;
    if (p.masked == 0u && key + 4u <= p.tokens) { return s; }
    var live = vec4(key) + vec4(0u, 1u, 2u, 3u) < vec4(p.tokens);
    if (p.masked != 0u && live.x) { live = live & (mask[head / p.heads * ((p.tokens + 3u) / 4u) + key / 4u] != vec4(0.0)); }
    return select(vec4(LOWEST), s, live);
}

// Of every second cell from that of `key` on.
fn scores(row: u32, cell: u32, head: u32, key: u32) -> mat4x4<f32> {
    let s = products_of(row, cell);
    return mat4x4(score(s[0], head, key), score(s[1], head, key + 8u), score(s[2], head, key + 16u), score(s[3], head, key + 24u));
}

fn highest(s: mat4x4<f32>) -> f32 {
    let m = max(max(s[0], s[1]), max(s[2], s[3]));
    return max(max(m.x, m.y), max(m.z, m.w));
}

// Turns scores into weights under the row's maximum `top`, staged as halves from cell `to` on; returns their sum.
fn put_weights(s: mat4x4<f32>, to: u32, top: f32) -> f32 {
    let w = mat4x4(exp(s[0] - top), exp(s[1] - top), exp(s[2] - top), exp(s[3] - top));  // of LOWEST 0, since no top is below FLOOR
    stage(to, vec4<f16>(w[0])); stage(to + 2u, vec4<f16>(w[1])); stage(to + 4u, vec4<f16>(w[2])); stage(to + 6u, vec4<f16>(w[3]));
    return dot((w[0] + w[1]) + (w[2] + w[3]), vec4(1.0));
}

// Weighs values and hands the results over, all units of a subgroup one after another.
fn weigh_values(first: u32, own: u32, others: u32, slice: u32) {
    for (var unit = first; unit < UNITS; unit += GROUPS) {
        var a = MatrixC(); var b = MatrixC(); var c = MatrixC(); var d = MatrixC();
        weigh_rows(unit, own, others, slice, &a, &b, &c, &d);
        hand_results(unit, own, slice, a, b, c, d);
    }
}

fn store(to: u32, slice: u32, cell: u32, sum: mat4x4<f32>) {
    for (var i = 0u; i < 4u; i++) {
        if (slice + cell + 2u * i < p.cells) { o[to + slice + cell + 2u * i] = pack4(sum[i]); }
    }
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
    let queries = row_of(head, 0u, 3u, Q);
    let keys = queries + p.row;
    let values = keys + p.row;
    let row = lid / 2u; let odd = lid % 2u; let unit = select(UNITS, group, group < GROUPS);
    copy_rows(QKV, queries, query, 0u, whole(own), lid);
    var sum = Cells(); var m = LOWEST; var l = 0.0;
    for (var key = 0u; key < p.tokens; key += BLOCK) {
        let others = min(BLOCK, p.tokens - key);
        copy_rows(QKV, keys, key, OTHER, whole(others), lid);
        workgroupBarrier();
        multiply_rows(unit, own, others);
        workgroupBarrier();
        copy_rows(QKV, values, key, OTHER, whole(others), lid);
        var mine = max(m, FLOOR); var s = Cells();
        if (row < own) {
            s.a = scores(row, odd, head, key + 4u * odd);
            mine = max(mine, highest(s.a));
            if (MATRIX > 8u) { s.b = scores(row, odd + 8u, head, key + 4u * odd + 32u); mine = max(mine, highest(s.b)); }
        }
        let top = max(mine, subgroupShuffleXor(mine, 1u));
        let f = exp(m - top);
        m = top;
        if (row < own) {
            let to = WEIGHTS + row * WEIGHTS_ROW + odd;
            l = l * f + put_weights(s.a, to, top);
            if (MATRIX > 8u) { l += put_weights(s.b, to + 8u, top); }
        }
        workgroupBarrier();
        weigh_values(unit, own, others, slice);
        workgroupBarrier();
        if (row < own) {
            sum.a = sum.a * f + products_of(row, odd);
            if (MATRIX > 8u) { sum.b = sum.b * f + products_of(row, odd + 8u); }
        }
    }
    l += subgroupShuffleXor(l, 1u);
    let rows = (p.tokens + 3u) / 4u * 4u;  // of the log-sum-exp: whole cells, the rest 0
    if (slice + odd == 0u && query + row < rows) {
        lse[head * rows + query + row] = select(0.0, select(NO_KEY, m + log(l), l > 0.0), query + row < p.tokens);
    }
    if (query + row >= p.tokens) { return; }
    let to = row_of(head, query + row, 1u, 0u);
    let r = select(0.0, 1.0 / l, l > 0.0);
    store(to, slice, odd, sum.a * r);
    if (MATRIX > 8u) { store(to, slice, odd + 8u, sum.b * r); }
}
