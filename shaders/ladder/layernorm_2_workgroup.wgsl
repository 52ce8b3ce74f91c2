// Step 2, a workgroup per row: neighbours read neighbouring memory, and share their sums through workgroup memory.
// parts: grid reduce
//
// As layernorm.wgsl, with weight and bias: the text declares no AFFINE.
// Work: a workgroup of 64 takes one row, its lanes take cells in turn; two barriers for each of two sums.
// Cost: about 8 FLOPs per element; reads x once from memory and twice from cache, writes y.

struct Params {
    rows: u32,
    width: u32,
    cells: u32,
    epsilon: f32,
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;
@group(0) @binding(1) var<storage, read> weight: array<Stored4>;
@group(0) @binding(2) var<storage, read> bias: array<Stored4>;
@group(0) @binding(3) var<storage, read_write> y: array<Stored4>;
@group(0) @binding(4) var<storage, read_write> mean: array<f32>;
@group(0) @binding(5) var<storage, read_write> rstd: array<f32>;

override ROWS_PER_GROUP: u32 = 1u;
const LANES = 64u;

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let row = group_index(wid, count);
    let cells = select(0u, p.cells, row < p.rows);
    let start = row * p.cells;

    var sum = vec4(0.0);
    for (var c = lid; c < cells; c += LANES) {
        sum += unpack4(x[start + c]);
    }
    let average = reduce_sum(lid, add4(sum)) / f32(p.width);

    var squares = vec4(0.0);
    for (var c = lid; c < cells; c += LANES) {
        let d = unpack4(x[start + c]) - average;
        squares += select(vec4(0.0), d * d, in_row(c, p.width));
    }
    let variance = reduce_sum(lid, add4(squares)) / f32(p.width);
    let scale = 1.0 / sqrt(variance + p.epsilon);

    for (var c = lid; c < cells; c += LANES) {
        let v = (unpack4(x[start + c]) - average) * scale * unpack4(weight[c]) + unpack4(bias[c]);
        y[start + c] = pack4(select(vec4(0.0), v, in_row(c, p.width)));
    }
    if (lid == 0u && row < ((p.rows + 3u) & ~3u)) {
        mean[row] = select(0.0, average, row < p.rows);
        rstd[row] = select(0.0, scale, row < p.rows);
    }
}
