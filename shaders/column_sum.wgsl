// Sum over the rows r with r % period == n, one partial sum per chunk of repeats:
//   y[chunk, n, c] = sum over j in the chunk of weight[r] * x[r, c],  r = j * period + n     (+ what stands there, if ADDED)
// x (repeats * period, width) Stored; weights f32 in groups of `group` per padded row; y (chunks, period, width) f32.
// The same kernel adds its own partial sums until one chunk is left. With PAIR the period is 2 and the second row of the sums
// goes to `second`: two gradients that one kernel has left partial sums of.
//
// Work: one invocation per chunk, n and cell. The period * cells cells of one repeat lie side by side in
// memory, so neighbours read neighbouring memory even where rows are short.
// Cost: 1 FLOP per element (2 with weights); reads x.

struct Params {
    repeats: u32,
    period: u32,
    cells: u32,
    chunk: u32,
    chunks: u32,
    group: u32,
    group_stride: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;
@group(0) @binding(1) var<storage, read> weights: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<Floats>;
@group(0) @binding(3) var<storage, read_write> second: array<Floats>;

override WORKGROUP: u32 = 64u;
// false: weights is not read, every weight is 1.
override WEIGHTED: bool = false;
// true: the sums are added to what stands in y, and in second.
override ADDED: bool = false;
// false: second is not written. true: there is one chunk.
override PAIR: bool = false;

// Repeat `j` of the cell `column`, weighted.
fn term(j: u32, column: u32, span: u32) -> vec4<f32> {
    let v = unpack4(x[j * span + column]);
    if WEIGHTED {
        return weighted(j * p.period + column / p.cells, v);
    }
    return v;
}

fn weighted(row: u32, v: vec4<f32>) -> vec4<f32> {
    let w = weights[(row / p.group) * p.group_stride + row % p.group];
    // A row of weight 0 counts as absent: what stands in it, even infinity, must not matter.
    return select(w * v, vec4<f32>(0.0), w == 0.0);
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let index = group_index(wid, count) * WORKGROUP + lid;
    let span = p.period * p.cells;
    let part = index / span;
    if part >= p.chunks {
        return;
    }
    let column = index - part * span;
    let n = column / p.cells;
    let first = part * p.chunk;
    let last = min(first + p.chunk, p.repeats);
    var sum = vec4<f32>(0.0);
    var j = first;
    // Four loads under way at once, then what is left.
    for (; j + 3u < last; j += 4u) {
        let pair = term(j, column, span) + term(j + 1u, column, span);
        sum += pair + (term(j + 2u, column, span) + term(j + 3u, column, span));
    }
    for (; j < last; j += 1u) {
        sum += term(j, column, span);
    }
    if PAIR && n == 1u {
        if ADDED {
            sum += floats(second[index - p.cells]);
        }
        second[index - p.cells] = cell_of_floats(sum);
        return;
    }
    if ADDED {
        sum += floats(y[index]);
    }
    y[index] = cell_of_floats(sum);
}
