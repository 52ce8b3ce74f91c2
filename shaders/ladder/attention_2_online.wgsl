// Step 2, online softmax: one pass over the keys; what was summed is rescaled when a block raises the maximum.
// parts: grid reduce
//
// As attention.wgsl: o = softmax(q k^T scale) v by rows of one head, and the log-sum-exp of each row; q, k and v stand side by
// side in the rows of qkv.
// Milakov and Gimelshein, 2018; Dao and others, 2022.
// Work: a workgroup of 64 takes one query; lanes take the keys of a block, then the cells of the output.
// Cost: 4 B H N N d FLOPs; K and V are read once per query.

struct Params {
    batches: u32,  // samples times heads
    heads: u32,
    tokens: u32,
    row: u32,      // cells of the rows of all heads of a token, side by side
    cells: u32,    // of a row of one head, at most 32
    tiles: u32,    // workgroups per head
    slices: u32,   // 1
    scale: f32,
    masked: u32,
}

@group(0) @binding(0) var<storage, read> qkv: array<Stored4>;
@group(0) @binding(1) var<storage, read> mask: array<f32>;
@group(0) @binding(2) var<storage, read_write> o: array<Stored4>;
@group(0) @binding(3) var<storage, read_write> lse: array<f32>;

override ROWS_PER_GROUP: u32 = 1u;
const LANES = 64u;
const NO_KEY = 3.0e38;  // log-sum-exp of a row without keys

var<workgroup> weights: array<f32, LANES>;

// First cell of a token's row of one head: part 0 to 2 of three in qkv, the only one in o.
fn row_of(head: u32, token: u32, parts: u32, part: u32) -> u32 {
    return ((head / p.heads * p.tokens + token) * parts + part) * p.row + head % p.heads * p.cells;
}

fn live(head: u32, key: u32) -> bool {
    if (key >= p.tokens) { return false; }
    return p.masked == 0u || mask[head / p.heads * ((p.tokens + 3u) & ~3u) + key] != 0.0;
}

fn score(head: u32, query: u32, key: u32) -> f32 {
    var sum = vec4(0.0);
    let from_q = row_of(head, query, 3u, 0u);
    let from_k = row_of(head, key, 3u, 1u);
    for (var cell = 0u; cell < p.cells; cell++) { sum += unpack4(qkv[from_q + cell]) * unpack4(qkv[from_k + cell]); }
    return add4(sum) * p.scale;
}

// The values of the next keys, weighted, in one cell.
fn weighted(head: u32, first: u32, cell: u32) -> vec4<f32> {
    var sum = vec4(0.0);
    if (cell < p.cells) {
        for (var j = 0u; j < min(LANES, p.tokens - first); j++) {
            sum += weights[j] * unpack4(qkv[row_of(head, first + j, 3u, 2u) + cell]);
        }
    }
    return sum;
}

fn store(head: u32, query: u32, lid: u32, value: vec4<f32>, kept: f32) {
    if (lid < p.cells) { o[row_of(head, query, 1u, 0u) + lid] = pack4(value); }
    let at = head * ((p.tokens + 3u) & ~3u) + query;
    if (lid == 0u) { lse[at] = kept; }
    // The padding of the last row's cell.
    if (query == p.tokens - 1u && lid > 0u && query + lid < ((p.tokens + 3u) & ~3u)) { lse[at + lid] = 0.0; }
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let group = group_index(wid, count);
    let head = group / p.tiles;
    let query = group % p.tiles;
    if (head >= p.batches) { return; }

    var top = LOWEST;
    var sum = 0.0;
    var value = vec4(0.0);
    for (var first = 0u; first < p.tokens; first += LANES) {
        let alive = live(head, first + lid);
        var mine = LOWEST;
        if (alive) { mine = score(head, query, first + lid); }
        let higher = max(top, reduce_max(lid, mine));
        let weight = select(0.0, exp(mine - higher), alive);
        // Nobody still reads the weights of the block before: all have passed the barriers of the maximum.
        weights[lid] = weight;
        let shrink = exp(top - higher);
        sum = sum * shrink + reduce_sum(lid, weight);
        value = value * shrink + weighted(head, first, lid);
        top = higher;
    }
    let inverse = select(0.0, 1.0 / sum, sum > 0.0);
    store(head, query, lid, value * inverse, select(NO_KEY, top + log(sum), sum > 0.0));
}
