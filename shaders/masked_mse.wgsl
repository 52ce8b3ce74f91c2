// Squared error over the kept rows, one pair (sum, count of kept rows) per chunk of rows:
//   keep[r] = row_mask[r] * sample_mask[sample of r]        sum = sum of keep[r] * (prediction - truth)^2
// prediction, truth (rows, width) Stored; row_mask f32 in groups of `group` per padded row; sample_mask (samples) f32;
// pairs (chunks, 2) f32, one padded cell each. `loss_mean` divides the sums by width * count.
//
// Work: ROW_LANES invocations per chunk walk over its rows side by side, so that what depends on the row alone, its masks and
// the divisions that find them, is done once a row.
// Cost: 3 FLOPs per element; reads prediction and truth, dropped rows not at all.

struct Params {
    rows: u32,
    cells: u32,
    chunk_rows: u32,
    chunks: u32,
    group: u32,
    group_stride: u32,
    sample_rows: u32,
}

@group(0) @binding(0) var<storage, read> prediction: array<Stored4>;
@group(0) @binding(1) var<storage, read> truth: array<Stored4>;
@group(0) @binding(2) var<storage, read> row_mask: array<f32>;
@group(0) @binding(3) var<storage, read> sample_mask: array<f32>;
@group(0) @binding(4) var<storage, read_write> pairs: array<vec4<f32>>;

// Fixed by the reduction over the workgroup.
override WORKGROUP: u32 = 64u;
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
    let chunk = group_index(wid, count) * (WORKGROUP / ROW_LANES) + lid / ROW_LANES;
    let lane = lid % ROW_LANES;
    // A chunk past the end has no rows, but takes part in the reduction: barriers need all invocations.
    let last = min((chunk + 1u) * p.chunk_rows, p.rows);
    var sum = vec4<f32>(0.0);
    var kept = 0.0;
    for (var row = chunk * p.chunk_rows; row < last; row += 1u) {
        let k = keep(row);
        // What stands in a dropped row must not matter, not even an infinity.
        if k != 0.0 {
            var squares = vec4<f32>(0.0);
            for (var i = row * p.cells + lane; i < (row + 1u) * p.cells; i += ROW_LANES) {
                let d = unpack4(prediction[i]) - unpack4(truth[i]);
                squares += d * d;
            }
            sum += k * squares;
            kept += k;
        }
    }
    // The lanes of a chunk have all counted its rows.
    let total = reduce_sum2(lid, vec2<f32>(add4(sum), select(0.0, kept, lane == 0u)));
    if lane == 0u && chunk < p.chunks {
        pairs[chunk] = vec4<f32>(total, 0.0, 0.0);
    }
}
