// Gradient of the masked mean squared error with respect to the prediction:
//   dprediction = upstream * inverse * 2 * keep[r] * (prediction - truth)
// upstream, inverse () f32; prediction, truth, dprediction (rows, width) Stored; masks as in `masked_mse`.
//
// Work: ROW_LANES invocations per row, which find its factor once and take its cells in turn.
// Cost: 4 FLOPs per element; reads prediction and truth, writes dprediction.

struct Params {
    rows: u32,
    cells: u32,
    group: u32,
    group_stride: u32,
    sample_rows: u32,
}

@group(0) @binding(0) var<storage, read> upstream: array<f32>;
@group(0) @binding(1) var<storage, read> inverse: array<f32>;
@group(0) @binding(2) var<storage, read> prediction: array<Stored4>;
@group(0) @binding(3) var<storage, read> truth: array<Stored4>;
@group(0) @binding(4) var<storage, read> row_mask: array<f32>;
@group(0) @binding(5) var<storage, read> sample_mask: array<f32>;
@group(0) @binding(6) var<storage, read_write> dprediction: array<Stored4>;

override WORKGROUP: u32 = 64u;
override ROW_LANES: u32 = 64u;
// false: row_mask is not read, every row is kept.
override ROW_MASK: bool = true;
// false: sample_mask is not read, every sample is kept.
override SAMPLE_MASK: bool = true;

fn keep(row: u32) -> f32 {
    var k = 1.0;
    if ROW_MASK {
        k = row_mask[(row / p.group) * p.group_stride + row % p.group];
    }
    if SAMPLE_MASK {
        k *= sample_mask[row / p.sample_rows];
    }
    return k;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let row = group_index(wid, count) * (WORKGROUP / ROW_LANES) + lid / ROW_LANES;
    if row >= p.rows {
        return;
    }
    let scale = upstream[0] * inverse[0] * 2.0 * keep(row);
    for (var i = row * p.cells + lid % ROW_LANES; i < (row + 1u) * p.cells; i += ROW_LANES) {
        var g = vec4<f32>(0.0);
        if scale != 0.0 {
            g = scale * (unpack4(prediction[i]) - unpack4(truth[i]));
        }
        dprediction[i] = pack4(g);
    }
}
