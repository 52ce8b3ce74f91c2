// c = epilogue(sum over s of x[s]): adds the partial products of a matmul that was split along K, always in the same order.
// x (splits, rows, width) f32; c (rows, width), its rows c_row cells apart. Where an epilogue asks for sums of rows, the parts have
// theirs in x too, (splits, rows) from cell `sums` on.
//
// Work: one invocation per cell of C, neighbours along a row, then one per cell of sums.
// Cost: 1 FLOP per partial value; reads each of them once, 4 bytes for every 2 K / splits FLOPs that the product spent on it.

override WORKGROUP: u32 = 64u;

struct Params {
    rows: u32,
    cells: u32,
    splits: u32,
    c_row: u32,
    sums: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Floats>;
@group(0) @binding(1) var<storage, read_write> c: array<Output4>;

fn total(first: u32, stride: u32) -> vec4<f32> {
    var sum = floats(x[first]);
    var s = 1u;
    // Four loads under way at once, then what is left.
    for (; s + 3u < p.splits; s += 4u) {
        let at = first + s * stride;
        let pair = floats(x[at]) + floats(x[at + stride]);
        sum += pair + (floats(x[at + 2u * stride]) + floats(x[at + 3u * stride]));
    }
    for (; s < p.splits; s += 1u) { sum += floats(x[first + s * stride]); }
    return sum;
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let i = group_index(wid, count) * WORKGROUP + lid;
    let row = i / p.cells;
    if (row < p.rows) {
        let cell = i % p.cells;
        let at = row * p.c_row + cell;
        c[at] = pack_output4(epilogue(at, cell, total(i, p.rows * p.cells)));
    } else if (ROW_SUMS) {
        let cell = i - p.rows * p.cells;
        let cells = (p.rows + 3u) / 4u;
        if (cell < cells) { put_row_sums(cell, total(p.sums + cell, cells)); }
    }
}
