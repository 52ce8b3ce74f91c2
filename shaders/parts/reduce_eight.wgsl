// Sums and maxima over the rows that a workgroup of 64 invocations holds, as in parts/reduce_any.wgsl, where subgroups have
// eight lanes: a row of eight lanes is one subgroup and needs no memory and no barrier, wider rows add the sums of their
// subgroups.
//
// Every invocation must reach every call: call from uniform control flow only.

// Lanes of a row: 8, 16, 32 or 64. With few of them the rows of a workgroup share its barriers.
override ROW_LANES: u32 = 64u;

const REDUCE_GROUP = 8u;

// Below every finite value: the start of a maximum. Not minus infinity, which WGSL cannot spell.
const LOWEST = -3.4028234e38;

var<workgroup> reduce_groups: array<vec2<f32>, 8>;

// Keeps one value for each subgroup, once the values of the call before have been read.
fn reduce_keep(lid: u32, v: vec2<f32>) {
    workgroupBarrier();
    if lid % REDUCE_GROUP == 0u { reduce_groups[lid / REDUCE_GROUP] = v; }
    workgroupBarrier();
}

// Two sums for the barriers of one.
fn reduce_sum2(lid: u32, v: vec2<f32>) -> vec2<f32> {
    let own = subgroupAdd(v);
    if ROW_LANES == REDUCE_GROUP { return own; }
    reduce_keep(lid, own);
    let first = lid / ROW_LANES * (ROW_LANES / REDUCE_GROUP);
    var total = reduce_groups[first];
    for (var i = first + 1u; i < first + ROW_LANES / REDUCE_GROUP; i += 1u) {
        total += reduce_groups[i];
    }
    return total;
}

fn reduce_sum(lid: u32, v: f32) -> f32 {
    return reduce_sum2(lid, vec2<f32>(v, 0.0)).x;
}

fn reduce_max(lid: u32, v: f32) -> f32 {
    let own = subgroupMax(v);
    if ROW_LANES == REDUCE_GROUP { return own; }
    reduce_keep(lid, vec2<f32>(own, 0.0));
    let first = lid / ROW_LANES * (ROW_LANES / REDUCE_GROUP);
    var highest = reduce_groups[first].x;
    for (var i = first + 1u; i < first + ROW_LANES / REDUCE_GROUP; i += 1u) {
        highest = max(highest, reduce_groups[i].x);
    }
    return highest;
}
