// Step 1, one invocation per row: no sums to share, but neighbours read memory a whole row apart.
// parts: grid
//
// As layernorm.wgsl, with weight and bias: the text declares no AFFINE.
// Work: a workgroup of 64 takes 64 rows.
// Cost: about 8 FLOPs per element; reads x three times, writes y.

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

override ROWS_PER_GROUP: u32 = 64u;

fn in_row(cell: u32, width: u32) -> vec4<bool> {
    return vec4(4u * cell) + vec4(0u, 1u, 2u, 3u) < vec4(width);
}

fn add4(v: vec4<f32>) -> f32 {
    return (v.x + v.y) + (v.z + v.w);
}

@compute @workgroup_size(ROWS_PER_GROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let row = group_index(wid, count) * ROWS_PER_GROUP + lid;
    let cells = select(0u, p.cells, row < p.rows);
    let start = row * p.cells;

    var sum = vec4(0.0);
    for (var c = 0u; c < cells; c += 1u) {
        sum += unpack4(x[start + c]);
    }
    let average = add4(sum) / f32(p.width);

    var squares = vec4(0.0);
    for (var c = 0u; c < cells; c += 1u) {
        let d = unpack4(x[start + c]) - average;
        squares += select(vec4(0.0), d * d, in_row(c, p.width));
    }
    let variance = add4(squares) / f32(p.width);
    let scale = 1.0 / sqrt(variance + p.epsilon);

    for (var c = 0u; c < cells; c += 1u) {
        let v = (unpack4(x[start + c]) - average) * scale * unpack4(weight[c]) + unpack4(bias[c]);
        y[start + c] = pack4(select(vec4(0.0), v, in_row(c, p.width)));
    }
    if (row < ((p.rows + 3u) & ~3u)) {
        mean[row] = select(0.0, average, row < p.rows);
        rstd[row] = select(0.0, scale, row < p.rows);
    }
}
