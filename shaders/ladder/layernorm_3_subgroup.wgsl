// Step 3, subgroups: lanes of a subgroup add up without memory; only one sum for each subgroup goes through a barrier.
// parts: grid
//
// As layernorm.wgsl, with weight and bias: the text declares no AFFINE.
// Work: a workgroup of 64 takes one row, its lanes take cells in turn.
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

// A sum of each subgroup, for the mean and for the variance: two places, so that one barrier is enough for each.
var<workgroup> sums: array<f32, LANES>;
var<workgroup> more_sums: array<f32, LANES>;

fn in_row(cell: u32, width: u32) -> vec4<bool> {
    return vec4(4u * cell) + vec4(0u, 1u, 2u, 3u) < vec4(width);
}

fn add4(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

@compute @workgroup_size(LANES)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32, @builtin(subgroup_id) group: u32,
        @builtin(num_subgroups) groups: u32, @builtin(subgroup_invocation_id) lane: u32) {
    let row = group_index(wid, count);
    let cells = select(0u, p.cells, row < p.rows);
    let start = row * p.cells;

    var sum = vec4(0.0);
    for (var c = lid; c < cells; c += LANES) {
        sum += unpack4(x[start + c]);
    }
    let part = subgroupAdd(add4(sum));
    if (lane == 0u) { sums[group] = part; }
    workgroupBarrier();
    var total = 0.0;
    for (var i = 0u; i < groups; i++) { total += sums[i]; }
    let average = total / f32(p.width);

    var squares = vec4(0.0);
    for (var c = lid; c < cells; c += LANES) {
        let d = unpack4(x[start + c]) - average;
        squares += select(vec4(0.0), d * d, in_row(c, p.width));
    }
    let square_part = subgroupAdd(add4(squares));
    if (lane == 0u) { more_sums[group] = square_part; }
    workgroupBarrier();
    total = 0.0;
    for (var i = 0u; i < groups; i++) { total += more_sums[i]; }
    let scale = 1.0 / sqrt(total / f32(p.width) + p.epsilon);

    for (var c = lid; c < cells; c += LANES) {
        let v = (unpack4(x[start + c]) - average) * scale * unpack4(weight[c]) + unpack4(bias[c]);
        y[start + c] = pack4(select(vec4(0.0), v, in_row(c, p.width)));
    }
    if (lid == 0u && row < ((p.rows + 3u) & ~3u)) {
        mean[row] = select(0.0, average, row < p.rows);
        rstd[row] = select(0.0, scale, row < p.rows);
    }
}
