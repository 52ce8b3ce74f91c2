// Cross-entropy of every kept row:
//   loss[r] = lse[r] - logits[r, target[r]]        lse[r] = log(sum over c of exp(logits[r, c]))
// logits (rows, width) Stored; targets u32 and mask f32, both in groups of `group` per padded row; lse (rows) f32, kept
// for the backward kernel; pairs (rows, 2) f32, one padded cell (mask * loss, mask, 0, 0) each, for `loss_mean`.
// A target that is no class drops its row, as a mask of 0 does; a dropped row has lse 0.
//
// Work: ROW_LANES invocations per row, one pass, four cells at a time (parts/rows.wgsl): each keeps a running maximum m and the sum
// of exp(x - m), and rescales the sum when the maximum grows (Milakov and Gimelshein, arXiv 1805.02867).
// Cost: about 5 FLOPs per element; reads the kept rows once.

struct Params {
    rows: u32,
    width: u32,
    cells: u32,
    group: u32,
    group_stride: u32,
}

@group(0) @binding(0) var<storage, read> logits: array<Stored4>;
@group(0) @binding(1) var<storage, read> targets: array<u32>;
@group(0) @binding(2) var<storage, read> mask: array<f32>;
@group(0) @binding(3) var<storage, read_write> lse: array<f32>;
@group(0) @binding(4) var<storage, read_write> pairs: array<vec4<f32>>;

// Fixed by the reduction over the workgroup.
override WORKGROUP: u32 = 64u;

// What is no value of the row cannot be its maximum, and its exponential is 0.
fn logit(x: vec4<f32>, c: u32) -> vec4<f32> {
    return select(vec4<f32>(LOWEST), x, in_row(c, p.width));
}

fn load(start: u32, c: u32) -> Four {
    let i = start + four_cells(c, ROW_LANES, p.cells);
    return Four(
        logit(unpack4(logits[i.x]), c),
        logit(unpack4(logits[i.y]), c + ROW_LANES),
        logit(unpack4(logits[i.z]), c + 2u * ROW_LANES),
        logit(unpack4(logits[i.w]), c + 3u * ROW_LANES),
    );
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let row = group_index(wid, count) * (WORKGROUP / ROW_LANES) + lid / ROW_LANES;
    let lane = lid % ROW_LANES;
    let own = min(row, p.rows - 1u);
    let place = (own / p.group) * p.group_stride + own % p.group;
    let label = targets[place];
    let keep = select(0.0, mask[place], label < p.width && row < p.rows);
    let start = own * p.cells;
    // A dropped row, or one past the end, has no cells, but takes part in the reductions: barriers need all.
    let cells = select(0u, p.cells, keep != 0.0);

    var top = LOWEST;
    var sum = 0.0;
    for (var c = lane; c < cells; c += 4u * ROW_LANES) {
        let v = load(start, c);
        let higher = max(top, max4(max(max(v.a, v.b), max(v.c, v.d))));
        let weights = (exp(v.a - higher) + exp(v.b - higher)) + (exp(v.c - higher) + exp(v.d - higher));
        sum = sum * exp(top - higher) + add4(weights);
        top = higher;
    }
    let highest = reduce_max(lid, top);
    let total = reduce_sum(lid, sum * exp(top - highest));
    let normaliser = select(0.0, highest + log(total), keep != 0.0);

    if lane == 0u && row < p.rows {
        var loss = 0.0;
        if keep != 0.0 {
            loss = keep * (normaliser - unpack4(logits[start + label / 4u])[label % 4u]);
        }
        pairs[row] = vec4<f32>(loss, keep, 0.0, 0.0);
    }
    // Up to three rows past the end write the zero padding of the statistics.
    if lane == 0u && row < ((p.rows + 3u) & ~3u) {
        lse[row] = normaliser;
    }
}
