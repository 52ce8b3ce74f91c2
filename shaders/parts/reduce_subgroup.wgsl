// Sums and maxima over the rows that a workgroup of 64 invocations holds, as in parts/reduce_any.wgsl, where all subgroups have one
// size: eight lanes on processors that play GPU, 32 or 64 on most GPUs. A row of one subgroup, or of a part of one, needs no memory and no
// barrier; wider rows add the sums of their subgroups, for two barriers and as many loads.
//
// Every invocation must reach every call: call from uniform control flow only.

// Lanes of a row: 8, 16, 32 or 64. With few of them the rows of a workgroup share its barriers.
override ROW_LANES: u32 = 64u;
override SUBGROUP: u32 = 8u;  // lanes of a subgroup, a power of two; lane l of subgroup s is invocation SUBGROUP s + l
override REDUCE_GROUPS: u32 = max(64u / SUBGROUP, 1u);

// Below every finite value: the start of a maximum. Not minus infinity, which WGSL cannot spell.
const LOWEST = -3.4028234e38;

var<workgroup> reduce_groups: array<vec2<f32>, REDUCE_GROUPS>;

// Over the lanes of a row that lie in one subgroup.
fn reduce_own(v: vec2<f32>) -> vec2<f32> {
    if ROW_LANES >= SUBGROUP { return subgroupAdd(v); }
    var sum = v;
    for (var step = 1u; step < ROW_LANES; step *= 2u) { sum += subgroupShuffleXor(sum, step); }
    return sum;
}

fn reduce_highest(v: f32) -> f32 {
    if ROW_LANES >= SUBGROUP { return subgroupMax(v); }
    var top = v;
    for (var step = 1u; step < ROW_LANES; step *= 2u) { top = max(top, subgroupShuffleXor(top, step)); }
    return top;
}

// Keeps one value for each subgroup, once the values of the call before have been read.
fn reduce_keep(lid: u32, v: vec2<f32>) {
    workgroupBarrier();
    if lid % SUBGROUP == 0u { reduce_groups[lid / SUBGROUP] = v; }
    workgroupBarrier();
}

// Two sums for the barriers of one.
fn reduce_sum2(lid: u32, v: vec2<f32>) -> vec2<f32> {
    let own = reduce_own(v);
    if ROW_LANES <= SUBGROUP { return own; }
    reduce_keep(lid, own);
    let first = lid / ROW_LANES * (ROW_LANES / SUBGROUP);
    var total = reduce_groups[first];
    for (var i = first + 1u; i < first + ROW_LANES / SUBGROUP; i += 1u) {
        total += reduce_groups[i];
    }
    return total;
}

fn reduce_sum(lid: u32, v: f32) -> f32 {
    return reduce_sum2(lid, vec2<f32>(v, 0.0)).x;
}

fn reduce_max(lid: u32, v: f32) -> f32 {
    let own = reduce_highest(v);
    if ROW_LANES <= SUBGROUP { return own; }
    reduce_keep(lid, vec2<f32>(own, 0.0));
    let first = lid / ROW_LANES * (ROW_LANES / SUBGROUP);
    var highest = reduce_groups[first].x;
    for (var i = first + 1u; i < first + ROW_LANES / SUBGROUP; i += 1u) {
        highest = max(highest, reduce_groups[i].x);
    }
    return highest;
}
