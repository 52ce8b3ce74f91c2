// Gradients of layer normalisation with respect to weight and bias:
//   dweight = sum over rows of dy * (x - mean) * rstd        dbias = sum of dy
// dy, x (rows, width) Stored; mean, rstd (rows) f32; dweight, dbias (width) f32. Of more than one chunk of rows the sums are partial:
// both stand in dweight, (chunks, 2, width), and `column_sum` adds the chunks.
//
// Work: one invocation per chunk and cell (four columns), so neighbours read neighbouring memory.
// Cost: 5 FLOPs per element; reads dy and x.

struct Params {
    rows: u32,
    cells: u32,
    chunk_rows: u32,
    chunks: u32,
}

@group(0) @binding(0) var<storage, read> dy: array<Stored4>;
@group(0) @binding(1) var<storage, read> x: array<Stored4>;
@group(0) @binding(2) var<storage, read> mean: array<f32>;
@group(0) @binding(3) var<storage, read> rstd: array<f32>;
@group(0) @binding(4) var<storage, read_write> dweight: array<Floats>;
@group(0) @binding(5) var<storage, read_write> dbias: array<Floats>;

override WORKGROUP: u32 = 64u;
// true: both are added to what stands in their places.
override ADDED: bool = false;
// true: the sums are partial, and dbias is not written.
override PARTIAL: bool = false;

// The terms of one row.
struct Terms { weights: vec4<f32>, biases: vec4<f32> }

fn terms(row: u32, cell: u32) -> Terms {
    let g = unpack4(dy[row * p.cells + cell]);
    // The padding of dy is zero, and so are both sums there.
    return Terms(g * ((unpack4(x[row * p.cells + cell]) - mean[row]) * rstd[row]), g);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let index = group_index(wid, count) * WORKGROUP + lid;
    let chunk = index / p.cells;
    if chunk >= p.chunks {
        return;
    }
    let cell = index - chunk * p.cells;
    let last = min((chunk + 1u) * p.chunk_rows, p.rows);
    var weights = vec4<f32>(0.0);
    var biases = vec4<f32>(0.0);
    var row = chunk * p.chunk_rows;
    // Loads of four rows under way at once, then what is left.
    for (; row + 3u < last; row += 4u) {
        let a = terms(row, cell);
        let b = terms(row + 1u, cell);
        let c = terms(row + 2u, cell);
        let d = terms(row + 3u, cell);
        weights += (a.weights + b.weights) + (c.weights + d.weights);
        biases += (a.biases + b.biases) + (c.biases + d.biases);
    }
    for (; row < last; row += 1u) {
        let a = terms(row, cell);
        weights += a.weights;
        biases += a.biases;
    }
    if PARTIAL {
        let at = 2u * chunk * p.cells + cell;
        dweight[at] = cell_of_floats(weights);
        dweight[at + p.cells] = cell_of_floats(biases);
        return;
    }
    if ADDED {
        weights += floats(dweight[index]);
        biases += floats(dbias[index]);
    }
    dweight[index] = cell_of_floats(weights);
    dbias[index] = cell_of_floats(biases);
}
