// Softmax of every row: y = exp(x - max(x)) / sum(exp(x - max(x))). x, y (rows, width) Stored.
//
// Work: ROW_LANES invocations per row, each with four cells at a time (parts/rows.wgsl). The first pass keeps a running maximum and
// the sum of exponentials below it (Milakov and Gimelshein, arXiv 1805.02867), the second writes. A row of at most four cells
// to a lane stays in registers between them; a longer one is read twice, the second time from cache.
// Cost: about 8 FLOPs per element; reads x, writes y.

struct Params {
    rows: u32,
    width: u32,
    cells: u32,
}

@group(0) @binding(0) var<storage, read> x: array<Stored4>;
@group(0) @binding(1) var<storage, read_write> y: array<Stored4>;

// Fixed by the reduction over the workgroup.
override WORKGROUP: u32 = 64u;

// What is no value of the row cannot be its maximum, and its exponential is 0.
fn cell(x: vec4<f32>, c: u32) -> vec4<f32> {
    return select(vec4<f32>(LOWEST), x, in_row(c, p.width));
}

fn load(start: u32, c: u32) -> Four {
    let i = vec4(start) + four_cells(c, ROW_LANES, p.cells);
    return Four(
        cell(unpack4(x[i.x]), c),
        cell(unpack4(x[i.y]), c + ROW_LANES),
        cell(unpack4(x[i.z]), c + 2u * ROW_LANES),
        cell(unpack4(x[i.w]), c + 3u * ROW_LANES),
    );
}

fn store(start: u32, c: u32, v: vec4<f32>) {
    if c < p.cells {
        y[start + c] = pack4(v);
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let row = group_index(wid, count) * (WORKGROUP / ROW_LANES) + lid / ROW_LANES;
    let lane = lid % ROW_LANES;
    // A row past the end reads the last one again: barriers need all invocations.
    let start = min(row, p.rows - 1u) * p.cells;
    var held = Four();
    var top = LOWEST;
    var sum = 0.0;
    for (var c = lane; c < p.cells; c += 4u * ROW_LANES) {
        held = load(start, c);
        let higher = max(top, max4(max(max(held.a, held.b), max(held.c, held.d))));
        let weights = exp(held.a - higher) + exp(held.b - higher) + exp(held.c - higher) + exp(held.d - higher);
        sum = sum * exp(top - higher) + add4(weights);
        top = higher;
    }
    let highest = reduce_max(lid, top);
    let scale = 1.0 / reduce_sum(lid, sum * exp(top - highest));
    if row >= p.rows {
        return;
    }
    for (var c = lane; c < p.cells; c += 4u * ROW_LANES) {
        if !HELD {
            held = load(start, c);
        }
        store(start, c, exp(held.a - highest) * scale);
        store(start, c + ROW_LANES, exp(held.b - highest) * scale);
        store(start, c + 2u * ROW_LANES, exp(held.c - highest) * scale);
        if has_fourth(ROW_LANES, p.cells) {
            store(start, c + 3u * ROW_LANES, exp(held.d - highest) * scale);
        }
    }
}
