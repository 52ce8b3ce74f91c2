// Attention's tiles in workgroup memory, for GPUs without cooperative matrices and for f32: what its three kernels share. 64
// invocations are 8 x 8 of them, (y, x). A workgroup owns ROWS rows of a head, four to a y, and takes those of the other side ROWS at a
// time, four to an x. Rows lie turned: a cell holds one channel of four rows, eight cells one channel of all, four channels are a block,
// tiles[block][channel % 4][rows / 4], so that what an invocation reads one after the other is constants apart. The last index is permuted
// (XOR with the block), so that neither rows on their way in nor eight neighbours that read meet in a bank.
// Workgroup memory, in blocks: OWN_TILES of own rows | rows of the other side, turned, or as they are stored, tiles[row / 4 and half][row % 4]
// [cell % 8] | weights, a row of the other side for a channel | a cell of each invocation, for what the eight x find together.

override WIDTH: u32 = 64u;  // channels of a head there, 32 or 64
const ROWS = 32u;
override STEPS: u32 = WIDTH / 4u;     // blocks of a tile of rows
override HALVES: u32 = WIDTH / 32u;   // blocks of four stored rows: cells of results that an invocation owns
override OTHER: u32 = OWN_TILES * STEPS;
override WEIGHTS: u32 = OTHER + STEPS;
override SHARED: u32 = WEIGHTS + ROWS / 4u;
override BLOCKS: u32 = SHARED + 2u;
var<workgroup> tiles: array<array<array<vec4<f32>, 8>, 4>, BLOCKS>;

// Rows of a buffer from a token on, turned: those of one head, whose first row starts at cell `start`. Past the last row it
// repeats, and so does the last cell of a narrow head, which nobody reads. Neighbours follow memory.
fn stage_turned(buffer: u32, start: u32, token: u32, to: u32, lid: u32) {
    for (var i = lid; i < ROWS / 4u * STEPS; i += 64u) {
        let group = i / STEPS; let step = i % STEPS;
        let rows = min(token + 4u * group + vec4(0u, 1u, 2u, 3u), vec4(p.tokens - 1u));
        let at = start + rows * row_stride(buffer) + min(step, p.cells - 1u);
        let x = transpose(mat4x4(buffer_cell(buffer, at.x), buffer_cell(buffer, at.y), buffer_cell(buffer, at.z), buffer_cell(buffer, at.w)));
        let lane = group ^ (step % 8u);
        tiles[to + step][0][lane] = x[0]; tiles[to + step][1][lane] = x[1];
        tiles[to + step][2][lane] = x[2]; tiles[to + step][3][lane] = x[3];
    }
}

// The same rows as they are stored, to the other side's place.
fn stage_rows(buffer: u32, start: u32, token: u32, lid: u32) {
    for (var i = lid; i < ROWS * STEPS; i += 64u) {
        let row = i / STEPS; let cell = i % STEPS;
        let at = start + min(token + row, p.tokens - 1u) * row_stride(buffer) + min(cell, p.cells - 1u);
        tiles[OTHER + row / 4u * HALVES + cell / 8u][row % 4u][cell % 8u] = buffer_cell(buffer, at);
    }
}

// Column i of the sum grows by x[i] y.
fn add(sum: mat4x4<f32>, x: vec4<f32>, y: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(sum[0] + x.x * y, sum[1] + x.y * y, sum[2] + x.z * y, sum[3] + x.w * y);
}

// Products of four rows of the other side, the columns, with four of the own rows from block `own` on.
fn products(own: u32, y: u32, x: u32) -> mat4x4<f32> {
    var sum = mat4x4<f32>();
    for (var step = 0u; step < p.cells; step += 1u) {
        let k = step % STEPS;  // it is step; that it is small tells compilers that no sum of indices wraps
        let i = OTHER + k; let j = own + k; let v = x ^ (k % 8u); let w = y ^ (k % 8u);
        for (var n = 0u; n < 4u; n += 1u) { sum = add(sum, tiles[i][n][v], tiles[j][n][w]); }
    }
    return sum;
}

fn put_weights(y: u32, x: u32, w: mat4x4<f32>) {
    let i = WEIGHTS + x; let lane = y ^ x;
    tiles[i][0][lane] = w[0]; tiles[i][1][lane] = w[1]; tiles[i][2][lane] = w[2]; tiles[i][3][lane] = w[3];
}

// Cells x and x + 8 of four own rows, the columns.
struct Two { low: mat4x4<f32>, high: mat4x4<f32> }

// They grow by `others` rows of the other side, as they are stored, with their weights.
fn weighed(sum: Two, y: u32, x: u32, others: u32) -> Two {
    var next = sum;
    for (var group = 0u; 4u * group < others; group += 1u) {
        let g = group % 8u;  // it is group, as above
        let i = WEIGHTS + g; let j = OTHER + g * HALVES; let k = j + HALVES - 1u; let lane = y ^ g;
        for (var n = 0u; n < 4u; n += 1u) {
            let w = tiles[i][n][lane];
            next.low = add(next.low, w, tiles[j][n][x]);
            if (HALVES > 1u) { next.high = add(next.high, w, tiles[k][n][x]); }
        }
    }
    return next;
}

// A value for each of four own rows, shown to the other seven x; what they come to, behind a barrier.
fn share(y: u32, x: u32, value: vec4<f32>) { tiles[SHARED + x / 4u][x % 4u][y ^ x] = value; }
fn shared_by(y: u32, x: u32) -> vec4<f32> { return tiles[SHARED + x / 4u][x % 4u][y ^ x]; }
fn shared_sum(y: u32) -> vec4<f32> {
    var sum = shared_by(y, 0u);
    for (var x = 1u; x < 8u; x += 1u) { sum += shared_by(y, x); }
    return sum;
}
fn shared_max(y: u32) -> vec4<f32> {
    var top = shared_by(y, 0u);
    for (var x = 1u; x < 8u; x += 1u) { top = max(top, shared_by(y, x)); }
    return top;
}

// Which of four keys count: those that exist and are not masked.
fn live_keys(head: u32, key: u32) -> vec4<bool> {
    let inside = vec4(key) + vec4(0u, 1u, 2u, 3u) < vec4(p.tokens);
    if (p.masked == 0u || !inside.x) { return inside; }
    return inside & (mask[head / p.heads * ((p.tokens + 3u) / 4u) + key / 4u] != vec4(0.0));
}

// The cell of lse and of delta that holds four queries.
fn statistic(head: u32, query: u32) -> u32 { return head * ((p.tokens + 3u) / 4u) + min(query, p.tokens - 1u) / 4u; }
