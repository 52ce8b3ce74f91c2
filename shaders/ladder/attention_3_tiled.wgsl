// Step 3, tiled: eight queries share each block of keys and values in workgroup memory, so memory is read an eighth as often.
// parts: grid
//
// As attention.wgsl: o = softmax(q k^T scale) v by rows of one head, and the log-sum-exp of each row; q, k and v stand side by
// side in the rows of qkv.
// FlashAttention (Dao and others, 2022), with the online softmax of step 2.
// Work: a workgroup of 64 takes eight queries, eight lanes to each. A lane computes the scores of two keys of a block of 16,
// then four cells of the output over the whole block; it makes weights of all 16 scores itself, which costs a few
// exponentials more and saves a barrier and the exchange of maxima and sums. Keys and values take turns in one place.
// Cost: 4 B H N N d FLOPs; K and V are read once per eight queries. 13 KiB of workgroup memory, four barriers a block.

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

override ROWS_PER_GROUP: u32 = 8u;
const LANES = 8u;           // of a query
const KEYS = 16u;           // of a block
const PITCH = 33u;          // cells of a row in workgroup memory: one more than it holds, so that rows start in different banks
const LOWEST = -3.0e38;     // below every score, yet finite: infinities would meet as inf - inf
const NO_KEY = 3.0e38;      // log-sum-exp of a row without keys

var<workgroup> queries: array<vec4<f32>, 264>;  // 8 rows
var<workgroup> block: array<vec4<f32>, 528>;    // 16 rows, of keys or of values
var<workgroup> scores: array<f32, 128>;         // 16 for each query

// First cell of a token's row of one head: part 0 to 2 of three in qkv, the only one in o.
fn row_of(head: u32, token: u32, parts: u32, part: u32) -> u32 {
    return ((head / p.heads * p.tokens + token) * parts + part) * p.row + head % p.heads * p.cells;
}

fn live(head: u32, key: u32) -> bool {
    if (key >= p.tokens) { return false; }
    return p.masked == 0u || mask[head / p.heads * ((p.tokens + 3u) & ~3u) + key] != 0.0;
}

// A cell of q, k or v; zeros past the last token, for 0 times what lies there need not be 0.
fn load(head: u32, token: u32, part: u32, cell: u32) -> vec4<f32> {
    if (token >= p.tokens) { return vec4(0.0); }
    return unpack4(qkv[row_of(head, token, 3u, part) + cell]);
}

// Copies the rows of a block to workgroup memory, neighbouring lanes neighbouring cells.
fn fill(head: u32, first: u32, part: u32, lid: u32) {
    for (var i = lid; i < KEYS * p.cells; i += 64u) {
        block[i / p.cells * PITCH + i % p.cells] = load(head, first + i / p.cells, part, i % p.cells);
    }
}

fn store(head: u32, query: u32, cell: u32, value: vec4<f32>) {
    if (query < p.tokens && cell < p.cells) { o[row_of(head, query, 1u, 0u) + cell] = pack4(value); }
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let group = group_index(wid, count);
    let head = group / p.tiles;
    let first_query = group % p.tiles * ROWS_PER_GROUP;
    if (head >= p.batches) { return; }
    let y = lid / LANES;
    let x = lid % LANES;
    for (var i = lid; i < ROWS_PER_GROUP * p.cells; i += 64u) {
        queries[i / p.cells * PITCH + i % p.cells] = load(head, first_query + i / p.cells, 0u, i % p.cells);
    }

    var top = LOWEST;
    var sum = 0.0;
    var o0 = vec4(0.0); var o1 = vec4(0.0); var o2 = vec4(0.0); var o3 = vec4(0.0);
    for (var first = 0u; first < p.tokens; first += KEYS) {
        workgroupBarrier();  // nobody reads the values of the block before any more
        fill(head, first, 1u, lid);
        workgroupBarrier();
        var s0 = vec4(0.0); var s1 = vec4(0.0);
        for (var c = 0u; c < p.cells; c++) {
            let q = queries[y * PITCH + c];
            s0 += q * block[x * PITCH + c];
            s1 += q * block[(x + LANES) * PITCH + c];
        }
        scores[y * KEYS + x] = select(LOWEST, dot(s0, vec4(1.0)) * p.scale, live(head, first + x));
        scores[y * KEYS + x + LANES] = select(LOWEST, dot(s1, vec4(1.0)) * p.scale, live(head, first + x + LANES));
        workgroupBarrier();  // all scores are there, and nobody reads the keys any more
        fill(head, first, 2u, lid);
        workgroupBarrier();
        var higher = top;
        for (var j = 0u; j < KEYS; j++) { higher = max(higher, scores[y * KEYS + j]); }
        let shrink = exp(top - higher);
        top = higher;
        sum *= shrink;
        o0 *= shrink; o1 *= shrink; o2 *= shrink; o3 *= shrink;
        for (var j = 0u; j < KEYS; j++) {
            let score = scores[y * KEYS + j];
            let weight = select(exp(score - top), 0.0, score == LOWEST);
            let at = j * PITCH + x;
            sum += weight;
            o0 += weight * block[at]; o1 += weight * block[at + 8u];
            o2 += weight * block[at + 16u]; o3 += weight * block[at + 24u];
        }
    }
    let inverse = select(0.0, 1.0 / sum, sum > 0.0);
    let query = first_query + y;
    store(head, query, x, o0 * inverse); store(head, query, x + 8u, o1 * inverse);
    store(head, query, x + 16u, o2 * inverse); store(head, query, x + 24u, o3 * inverse);
    // The padding of the last row's cell is written too.
    let padded = (p.tokens + 3u) & ~3u;
    if (x == 0u && query < padded) {
        let kept = select(NO_KEY, top + log(sum), sum > 0.0);
        lse[head * padded + query] = select(0.0, kept, query < p.tokens);
    }
}
