// Gradient of attention's queries (attention_backward_query.wgsl has the formula and shapes) through tiles in workgroup memory: for
// GPUs, where there are no cooperative matrices and in f32. Heads of up to 64 channels; tiles and division of work are those of
// parts/attention_tile.wgsl. delta is written for the kernel of keys and values.
//
// Work: 64 invocations own 32 queries of a head and the gradients of their outputs. For each 32 keys: 4 x 4 scores and their slopes
// in an invocation's registers, from keys and values that follow each other in one tile; slopes go to workgroup memory, and each
// invocation weighs two cells of keys for its four queries. Six barriers part the steps.
// Cost, d 64: 6 B H N N d FLOPs. Device memory or cache: 24 KiB, keys twice, for 393,216 FLOPs, 16 per byte in f32. 29 KiB of
// workgroup memory: seven workgroups in 228 KiB. Not measured.

const OWN_TILES = 2u;  // queries, gradients of outputs

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

// o . do of four rows, as far as one cell goes.
fn cell_deltas(start: u32, query: u32, cell: u32) -> vec4<f32> {
    if (cell >= p.cells) { return vec4(0.0); }
    let at = start + min(query + vec4(0u, 1u, 2u, 3u), vec4(p.tokens - 1u)) * p.row + cell;
    return vec4(dot(unpack4(o[at.x]), unpack4(grad[at.x])), dot(unpack4(o[at.y]), unpack4(grad[at.y])),
        dot(unpack4(o[at.z]), unpack4(grad[at.z])), dot(unpack4(o[at.w]), unpack4(grad[at.w])));
}

// dS of one key for four queries. A row without keys has an enormous log-sum-exp: exp gives 0.
fn slope(s: vec4<f32>, g: vec4<f32>, log_sum: vec4<f32>, means: vec4<f32>, live: bool) -> vec4<f32> {
    return select(vec4(0.0), exp(s * p.scale - log_sum) * (g - means) * p.scale, live);
}

fn store(head: u32, query: u32, cell: u32, sum: mat4x4<f32>) {
    if (cell >= p.cells || query >= p.tokens) { return; }
    let at = row_of(head, query, 3u, Q) + cell; let next = 3u * p.row;
    dqkv[at] = pack4(sum[0]);
    if (query + 1u < p.tokens) { dqkv[at + next] = pack4(sum[1]); }
    if (query + 2u < p.tokens) { dqkv[at + 2u * next] = pack4(sum[2]); }
    if (query + 3u < p.tokens) { dqkv[at + 3u * next] = pack4(sum[3]); }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let tile = wid.x + wid.y * count.x;  // group_index, in place: what follows must be seen to be uniform
    let head = tile / p.tiles;
    if (head >= p.batches) { return; }
    let y = lid / 8u; let x = lid % 8u;
    let first = tile % p.tiles * ROWS; let query = first + 4u * y;
    let queries = row_of(head, 0u, 3u, Q); let grads = row_of(head, 0u, 1u, 0u);
    let keys = queries + p.row; let values = keys + p.row;
    stage_turned(QKV, queries, first, 0u, lid);
    stage_turned(GRAD, grads, first, STEPS, lid);
    share(y, x, cell_deltas(grads, query, x) + cell_deltas(grads, query, x + 8u));
    workgroupBarrier();
    let means = shared_sum(y);
    let log_sum = lse[statistic(head, query)];
    var sum = Two();
    for (var key = 0u; key < p.tokens; key += ROWS) {
        stage_turned(QKV, keys, key, OTHER, lid);
        workgroupBarrier();
        let s = products(0u, y, x);
        workgroupBarrier();
        stage_turned(QKV, values, key, OTHER, lid);
        workgroupBarrier();
        let g = products(STEPS, y, x); let live = live_keys(head, key + 4u * x);
        put_weights(y, x, mat4x4(slope(s[0], g[0], log_sum, means, live.x), slope(s[1], g[1], log_sum, means, live.y),
            slope(s[2], g[2], log_sum, means, live.z), slope(s[3], g[3], log_sum, means, live.w)));
        workgroupBarrier();
        stage_rows(QKV, keys, key, lid);
        workgroupBarrier();
        sum = weighed(sum, y, x, min(ROWS, p.tokens - key));
        workgroupBarrier();
    }
    store(head, query, x, sum.low);
    if (HALVES > 1u) { store(head, query, x + 8u, sum.high); }
    if (x == 0u && query < p.tokens) {
        delta[statistic(head, query)] = select(vec4(0.0), means, vec4(query) + vec4(0u, 1u, 2u, 3u) < vec4(p.tokens));
    }
}
