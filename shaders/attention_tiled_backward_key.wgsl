// Gradients of attention's keys and values (attention_backward_key.wgsl has the formulas and shapes) through tiles in workgroup
// memory: for GPUs, where there are no cooperative matrices and in f32. Heads of up to 64 channels; tiles and division of work are
// those of parts/attention_tile.wgsl. delta is read.
//
// Work: 64 invocations own 32 keys and values of a head. For each 32 queries: 4 x 4 probabilities in an invocation's registers, and
// their slopes, from queries and gradients of outputs that follow each other in one tile; one after the other both go to
// workgroup memory, where each invocation weighs two cells of gradients and of queries by them. Eight barriers part the steps.
// Cost, d 64: 8 B H N N d FLOPs. Device memory or cache: 32 KiB, each row twice, for 524,288 FLOPs, 16 per byte in f32. 29 KiB
// of workgroup memory: seven workgroups in 228 KiB, six by registers. Not measured.

const OWN_TILES = 2u;  // keys, values

@group(0) @binding(0) var<storage, read> qkv: array<Stored4>;
@group(0) @binding(1) var<storage, read> o: array<Stored4>;
@group(0) @binding(2) var<storage, read> grad: array<Stored4>;
@group(0) @binding(3) var<storage, read> mask: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> lse: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> dqkv: array<Stored4>;
@group(0) @binding(6) var<storage, read_write> delta: array<vec4<f32>>;

const QKV = 0u;
const GRAD = 1u;

fn row_stride(buffer: u32) -> u32 { return select(3u, 1u, buffer == GRAD) * p.row; }

fn buffer_cell(buffer: u32, at: u32) -> vec4<f32> {
    if (buffer == GRAD) { return unpack4(grad[at]); }
    return unpack4(qkv[at]);
}

// P of four queries, the columns, each for four keys. Queries past the end get an enormous log-sum-exp, and so no weight.
fn log_sums(head: u32, query: u32) -> vec4<f32> {
    return select(vec4(3.0e38), lse[statistic(head, query)], vec4(query) + vec4(0u, 1u, 2u, 3u) < vec4(p.tokens));
}
fn probabilities(s: mat4x4<f32>, l: vec4<f32>, live: vec4<bool>) -> mat4x4<f32> {
    let none = vec4(0.0);
    return mat4x4(select(none, exp(s[0] * p.scale - l.x), live), select(none, exp(s[1] * p.scale - l.y), live),
        select(none, exp(s[2] * p.scale - l.z), live), select(none, exp(s[3] * p.scale - l.w), live));
}

fn slopes(w: mat4x4<f32>, g: mat4x4<f32>, d: vec4<f32>) -> mat4x4<f32> {
    return p.scale * mat4x4(w[0] * (g[0] - d.x), w[1] * (g[1] - d.y), w[2] * (g[2] - d.z), w[3] * (g[3] - d.w));
}

// Gradients of four keys, and of their values.
fn store(head: u32, key: u32, cell: u32, a: mat4x4<f32>, b: mat4x4<f32>) {
    if (cell >= p.cells || key >= p.tokens) { return; }
    let at = row_of(head, key, 3u, K) + 3u * p.row * vec4(0u, 1u, 2u, 3u) + cell; let next = at + p.row;
    dqkv[at.x] = pack4(a[0]); dqkv[next.x] = pack4(b[0]);
    if (key + 1u < p.tokens) { dqkv[at.y] = pack4(a[1]); dqkv[next.y] = pack4(b[1]); }
    if (key + 2u < p.tokens) { dqkv[at.z] = pack4(a[2]); dqkv[next.z] = pack4(b[2]); }
    if (key + 3u < p.tokens) { dqkv[at.w] = pack4(a[3]); dqkv[next.w] = pack4(b[3]); }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let tile = wid.x + wid.y * count.x;  // group_index, in place: what follows must be seen to be uniform
    let head = tile / p.tiles;
    if (head >= p.batches) { return; }
    _ = &o;  // bound for attention_backward_key's sake, and not read
    let y = lid / 8u; let x = lid % 8u;
    let first = tile % p.tiles * ROWS; let key = first + 4u * y; let live = live_keys(head, key);
    let queries = row_of(head, 0u, 3u, Q); let grads = row_of(head, 0u, 1u, 0u);
    let keys = queries + p.row; let values = keys + p.row;
    stage_turned(QKV, keys, first, 0u, lid);
    stage_turned(QKV, values, first, STEPS, lid);
    var a = Two(); var b = Two();
    for (var query = 0u; query < p.tokens; query += ROWS) {
        let others = min(ROWS, p.tokens - query); let mine = query + 4u * x;
        // Before they are needed, for no load goes past a barrier.
        let log_sum = log_sums(head, mine); let means = delta[statistic(head, mine)];
        stage_turned(QKV, queries, query, OTHER, lid);
        workgroupBarrier();
        let w = probabilities(products(0u, y, x), log_sum, live);
        put_weights(y, x, w);
        workgroupBarrier();
        stage_turned(GRAD, grads, query, OTHER, lid);
        workgroupBarrier();
        let g = products(STEPS, y, x);
        workgroupBarrier();
        stage_rows(GRAD, grads, query, lid);
        workgroupBarrier();
        b = weighed(b, y, x, others);
        workgroupBarrier();
        put_weights(y, x, slopes(w, g, means));
        stage_rows(QKV, queries, query, lid);
        workgroupBarrier();
        a = weighed(a, y, x, others);
        workgroupBarrier();
    }
    store(head, key, x, a.low, b.low);
    if (HALVES > 1u) { store(head, key, x + 8u, a.high, b.high); }
}
