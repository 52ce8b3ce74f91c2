// Attention (attention.wgsl has the formula, shapes and masks) through tiles in workgroup memory: for GPUs, where there are no
// cooperative matrices and in f32. Heads of up to 64 channels; tiles and division of work are those of parts/attention_tile.wgsl.
//
// Work: 64 invocations own 32 queries of a head. For each 32 keys: an invocation computes 4 x 4 scores in registers; the eight that
// share queries find their maxima; weights go to workgroup memory, and each invocation weighs two cells of values for its four
// queries, whose sums it keeps and rescales in registers (online softmax). Four barriers part the steps.
// Cost, d 64: 4 B H N N d FLOPs. Device memory or cache: 16 KiB of keys and values for 262,144 FLOPs, 16 per byte in f32. Workgroup
// memory: two reads of 16 bytes for 16 multiply-adds of an invocation, then three for 32; neighbours read the same cells. 21 KiB of it:
// ten workgroups in 228 KiB, nine by registers. 2,048 multiply-adds of about 3,300 instructions for 32 keys, by NVIDIA's assembler. Not measured.

const OWN_TILES = 1u;

@group(0) @binding(0) var<storage, read> qkv: array<Stored4>;
@group(0) @binding(1) var<storage, read> mask: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> o: array<Stored4>;
@group(0) @binding(3) var<storage, read_write> lse: array<vec4<f32>>;

const LOWEST = -3.0e38;  // below every score, yet finite: infinities would meet as inf - inf
const FLOOR = -1.0e38;   // below every score too, and far above LOWEST: no maximum is less
const NO_KEY = 3.0e38;   // log-sum-exp of a row without keys: every probability recomputed from it is 0

const QKV = 0u;

fn row_stride(buffer: u32) -> u32 { return 3u * p.row; }

fn buffer_cell(buffer: u32, at: u32) -> vec4<f32> { return unpack4(qkv[at]); }

// Scaled scores of four keys from `key` on, its columns: LOWEST where a key does not count.
fn scores(s: mat4x4<f32>, head: u32, key: u32) -> mat4x4<f32> {
    let live = live_keys(head, key); let low = vec4(LOWEST);
    return mat4x4(select(low, s[0] * p.scale, live.x), select(low, s[1] * p.scale, live.y),
        select(low, s[2] * p.scale, live.z), select(low, s[3] * p.scale, live.w));
}

fn scaled(sum: mat4x4<f32>, by: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(sum[0] * by.x, sum[1] * by.y, sum[2] * by.z, sum[3] * by.w);
}

fn store(head: u32, query: u32, cell: u32, sum: mat4x4<f32>) {
    if (cell >= p.cells || query >= p.tokens) { return; }
    let at = row_of(head, query, 1u, 0u) + cell;
    o[at] = pack4(sum[0]);
    if (query + 1u < p.tokens) { o[at + p.row] = pack4(sum[1]); }
    if (query + 2u < p.tokens) { o[at + 2u * p.row] = pack4(sum[2]); }
    if (query + 3u < p.tokens) { o[at + 3u * p.row] = pack4(sum[3]); }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let tile = wid.x + wid.y * count.x;  // group_index, in place: what follows must be seen to be uniform
    let head = tile / p.tiles;
    if (head >= p.batches) { return; }
    let y = lid / 8u; let x = lid % 8u;
    let first = tile % p.tiles * ROWS; let query = first + 4u * y;
    let queries = row_of(head, 0u, 3u, Q);
    let keys = queries + p.row; let values = keys + p.row;
    stage_turned(QKV, queries, first, 0u, lid);
    var sum = Two(); var m = vec4(LOWEST); var l = vec4(0.0);
    for (var key = 0u; key < p.tokens; key += ROWS) {
        stage_turned(QKV, keys, key, OTHER, lid);
        workgroupBarrier();
        let s = scores(products(0u, y, x), head, key + 4u * x);
        share(y, x, max(max(s[0], s[1]), max(s[2], s[3])));
        workgroupBarrier();
        stage_rows(QKV, values, key, lid);
        let top = max(max(m, vec4(FLOOR)), shared_max(y)); let f = exp(m - top);
        m = top;
        let w = mat4x4(exp(s[0] - top), exp(s[1] - top), exp(s[2] - top), exp(s[3] - top));  // 0 for a key that does not count
        put_weights(y, x, w);
        l = l * f + (w[0] + w[1] + w[2] + w[3]);
        sum = Two(scaled(sum.low, f), scaled(sum.high, f));
        workgroupBarrier();
        sum = weighed(sum, y, x, min(ROWS, p.tokens - key));
        workgroupBarrier();
    }
    share(y, x, l);
    workgroupBarrier();
    l = shared_sum(y);
    let r = select(vec4(0.0), 1.0 / l, l > vec4(0.0));
    store(head, query, x, scaled(sum.low, r));
    if (HALVES > 1u) { store(head, query, x + 8u, scaled(sum.high, r)); }
    if (x == 0u && query < p.tokens) {
        let kept = select(vec4(NO_KEY), m + log(l), l > vec4(0.0));
        lse[statistic(head, query)] = select(vec4(0.0), kept, vec4(query) + vec4(0u, 1u, 2u, 3u) < vec4(p.tokens));
    }
}
