// The k largest scores of every row among the candidates from `first` on, largest first; of equal scores the lowest
// index comes first. NaN and minus infinity are never chosen; where candidates run out, the index is `width` (one past
// the last) and the value the lowest finite number.
// scores (rows, width) Stored; indices u32 and values f32, both (rows, k), every row padded to whole cells.
//
// Work: ROW_LANES invocations per row, k rounds. A round looks for the best candidate after the previous choice in
// the order (score falling, index rising), so nothing has to be marked or sorted, and the result is exact.
// Cost: k comparisons per score; reads the row k times, from cache after the first.

struct Params {
    rows: u32,
    width: u32,
    cells: u32,
    first: u32,
    k: u32,
    stride: u32,
}

@group(0) @binding(0) var<storage, read> scores: array<Stored4>;
@group(0) @binding(1) var<storage, read_write> indices: array<u32>;
@group(0) @binding(2) var<storage, read_write> values: array<f32>;

// Fixed by the reduction over the workgroup.
override WORKGROUP: u32 = 64u;

struct Choice {
    value: f32,
    index: u32,
}

// The candidate (v, index) if it beats `best` and comes after the previous choice, else `best`.
fn better(best: Choice, previous: Choice, slot: u32, v: f32, index: u32) -> Choice {
    let after = slot == 0u || v < previous.value || (v == previous.value && index > previous.index);
    let candidate = index >= p.first && index < p.width;
    // Indices rise within an invocation: among equal scores the first one stays.
    if candidate && after && v > best.value {
        return Choice(v, index);
    }
    return best;
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let row = group_index(wid, count) * (WORKGROUP / ROW_LANES) + lid / ROW_LANES;
    let lane = lid % ROW_LANES;
    // A row past the end has no cells, but takes part in the reductions: barriers need all invocations.
    let cells = select(0u, p.cells, row < p.rows);
    var previous = Choice(LOWEST, p.width);
    for (var slot = 0u; slot < p.k; slot += 1u) {
        var best = Choice(LOWEST, p.width);
        for (var c = p.first / 4u + lane; c < cells; c += ROW_LANES) {
            let v = unpack4(scores[row * p.cells + c]);
            best = better(best, previous, slot, v.x, 4u * c);
            best = better(best, previous, slot, v.y, 4u * c + 1u);
            best = better(best, previous, slot, v.z, 4u * c + 2u);
            best = better(best, previous, slot, v.w, 4u * c + 3u);
        }
        let top = reduce_max(lid, best.value);
        // The lowest index among equal scores is the largest negative one; f32 counts exactly to 2^24.
        let index = -reduce_max(lid, select(LOWEST, -f32(best.index), best.value == top));
        previous = Choice(top, u32(index));
        if lane == 0u && row < p.rows {
            indices[row * p.stride + slot] = previous.index;
            values[row * p.stride + slot] = top;
        }
    }
    if lane < p.stride - p.k && row < p.rows {
        indices[row * p.stride + p.k + lane] = 0u;
        values[row * p.stride + p.k + lane] = 0.0;
    }
}
