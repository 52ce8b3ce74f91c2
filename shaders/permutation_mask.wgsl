// A random subset of exactly K of N tokens for every sample: y[b,n] = 1 where token n is among the first K of a random
// permutation, else 0; y (B, N) in f32, N <= 4096.
//
// Every token draws 32 random bits; its rank is the number of tokens with fewer (of equal draws the earlier token goes
// first, so that the ranks are a permutation whatever was drawn), and the K lowest ranks are masked. Counting ranks
// takes N^2 comparisons and no sorting network: every invocation works alone and no order depends on timing.
//
// One workgroup per sample. It draws the N keys into workgroup memory once (16 KiB, the guaranteed size, hence 4096)
// and then each invocation ranks its own cells of four tokens.
// Cost: N^2 comparisons and one write of N elements per sample.

struct Params {
    rows: u32,      // B
    row_cells: u32, // ceil(N / 4)
    width: u32,     // N
    masked: u32,    // K
    stream: u32,
    stream_hi: u32,
}

@group(0) @binding(0) var<storage, read> random: array<u32>; // seed_lo, seed_hi, step
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;

override WORKGROUP: u32 = 64u;

var<workgroup> keys: array<vec4<u32>, 1024>;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let row = group_index(wid, count);
    if (row >= p.rows) {
        return;
    }
    let seed = vec2<u32>(random[0], random[1]);
    for (var c = lid; c < p.row_cells; c += WORKGROUP) {
        keys[c] = philox(vec4<u32>(row * p.row_cells + c, p.stream, random[2], p.stream_hi), seed);
    }
    // The ranks need the keys of all invocations.
    workgroupBarrier();

    for (var c = lid; c < p.row_cells; c += WORKGROUP) {
        let key = keys[c];
        let token = vec4<u32>(4u * c) + vec4<u32>(0u, 1u, 2u, 3u);
        var rank = vec4<u32>(0u);
        for (var n = 0u; n < p.width; n += 1u) {
            let other = vec4<u32>(keys[n / 4u][n % 4u]);
            let before = (other < key) | ((other == key) & (vec4<u32>(n) < token));
            rank += select(vec4<u32>(0u), vec4<u32>(1u), before);
        }
        let chosen = (rank < vec4<u32>(p.masked)) & (token < vec4<u32>(p.width));
        y[row * p.row_cells + c] = select(vec4<f32>(0.0), vec4<f32>(1.0), chosen);
    }
}
