// Layer normalisation of every row (Ba, Kiros and Hinton, arXiv 1607.06450):
//   mean = sum(x) / width      variance = sum((x - mean)^2) / width      rstd = 1 / sqrt(variance + epsilon)
//   y = (x - mean) * rstd * weight + bias
// x, y (rows, width) Stored; weight, bias (width) Stored; mean, rstd (rows) f32, kept for the backward kernels.
//
// Work: ROW_LANES invocations per row, which take its cells in turn, so neighbours read neighbouring memory, four at a time
// (parts/rows.wgsl). Each lane finds mean and squares of its own values in one pass, and the lanes' are joined (Chan, Golub
// and LeVeque, 1979). A row of at most four cells to a lane stays in registers for the second pass; a longer one is read twice,
// the second time from cache.
// Cost: about 8 FLOPs per element; reads x, writes y.

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

// Fixed by the reduction over the workgroup.
override WORKGROUP: u32 = 64u;
// false: weight and bias are not read, y is the normalised row itself.
override AFFINE: bool = true;

fn load(start: u32, c: u32) -> Four {
    let i = vec4(start) + four_cells(c, ROW_LANES, p.cells);
    return Four(unpack4(x[i.x]), unpack4(x[i.y]), unpack4(x[i.z]), unpack4(x[i.w]));
}

// Sums of the differences of a lane's values from `shift`, and of the squares of these.
struct Sums { first: vec4<f32>, second: vec4<f32> }

fn grow(s: Sums, v: vec4<f32>, shift: f32, c: u32) -> Sums {
    // A cell past the end of the row must not count, nor must padding.
    let live = select(0.0, 1.0, c < p.cells);
    let d = without_padding(c, p.width, v * live - shift * live);
    return Sums(s.first + d, s.second + d * d);
}

// How many values of a row a lane has.
fn seen(lane: u32) -> u32 {
    let cells = (p.cells + ROW_LANES - 1u - min(lane, p.cells + ROW_LANES - 1u)) / ROW_LANES;
    return 4u * cells - select(0u, 4u * p.cells - p.width, lane == (p.cells - 1u) % ROW_LANES);
}

fn store(start: u32, c: u32, v: vec4<f32>) {
    if c < p.cells {
        y[start + c] = pack4(without_padding(c, p.width, v));
    }
}

// Normalised cells times weight plus bias: all loaded before the first is stored, for a load behind a condition waits for itself.
fn affine(c: u32, n: Four) -> Four {
    if !AFFINE {
        return n;
    }
    let i = four_cells(c, ROW_LANES, p.cells);
    let w = Four(unpack4(weight[i.x]), unpack4(weight[i.y]), unpack4(weight[i.z]), unpack4(weight[i.w]));
    let b = Four(unpack4(bias[i.x]), unpack4(bias[i.y]), unpack4(bias[i.z]), unpack4(bias[i.w]));
    return Four(n.a * w.a + b.a, n.b * w.b + b.b, n.c * w.c + b.c, n.d * w.d + b.d);
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

    // Differences from the lane's first value: sum(x^2) / width - mean^2 would cancel when the mean is large.
    var held = load(start, lane);
    let shift = held.a.x;
    var s = Sums();
    for (var c = lane; ; ) {
        s = grow(s, held.a, shift, c);
        s = grow(s, held.b, shift, c + ROW_LANES);
        s = grow(s, held.c, shift, c + 2u * ROW_LANES);
        if has_fourth(ROW_LANES, p.cells) {
            s = grow(s, held.d, shift, c + 3u * ROW_LANES);
        }
        c += 4u * ROW_LANES;
        if HELD || c >= p.cells {
            break;
        }
        held = load(start, c);
    }
    let n = f32(seen(lane));
    let own = add4(s.first) / max(n, 1.0);
    let average = reduce_sum(lid, n * (shift + own)) / f32(p.width);
    let apart = shift + own - average;
    let variance = reduce_sum(lid, add4(s.second) - n * own * own + n * apart * apart) / f32(p.width);
    let scale = 1.0 / sqrt(variance + p.epsilon);

    if row < p.rows {
        for (var c = lane; c < p.cells; c += 4u * ROW_LANES) {
            if !HELD {
                held = load(start, c);
            }
            let a = average;
            let v = affine(c, Four((held.a - a) * scale, (held.b - a) * scale, (held.c - a) * scale, (held.d - a) * scale));
            store(start, c, v.a);
            store(start, c + ROW_LANES, v.b);
            store(start, c + 2u * ROW_LANES, v.c);
            if has_fourth(ROW_LANES, p.cells) {
                store(start, c + 3u * ROW_LANES, v.d);
            }
            if HELD {
                break;
            }
        }
    }
    // Up to three rows past the end write the zero padding of the statistics.
    if lane == 0u && row < ((p.rows + 3u) & ~3u) {
        mean[row] = select(0.0, average, row < p.rows);
        rstd[row] = select(0.0, scale, row < p.rows);
    }
}
