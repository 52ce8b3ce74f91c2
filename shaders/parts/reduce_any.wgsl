// Sums and maxima over the rows that a workgroup of 64 invocations holds: 64 / ROW_LANES rows of ROW_LANES lanes each.
//
// Two levels through workgroup memory: each of the first 8 invocations adds 8 of the 64 values, then every invocation
// adds those of the 8 sums that belong to its row. A binary tree would need six levels and a barrier after each, and
// a barrier is what a software driver pays for. The order is fixed, so the same input gives the same bits. The result
// is valid in all lanes of the row.
//
// Every invocation must reach the two barriers: call from uniform control flow only. Calls may follow one another
// without a barrier between them: whoever writes `reduce_values` again has passed the second barrier, after its last
// read, and whoever writes `reduce_groups` again has passed the next call's first barrier, which nobody reaches
// before having read the old sums.

// Lanes of a row: 8, 16, 32 or 64. With few of them the rows of a workgroup share its barriers.
override ROW_LANES: u32 = 64u;

const REDUCE = 64u;
const REDUCE_GROUP = 8u;

// Below every finite value: the start of a maximum. Not minus infinity, which WGSL cannot spell.
const LOWEST = -3.4028234e38;

var<workgroup> reduce_values: array<vec2<f32>, REDUCE>;
var<workgroup> reduce_groups: array<vec2<f32>, REDUCE_GROUP>;

// Two sums for the barriers of one.
fn reduce_sum2(lid: u32, v: vec2<f32>) -> vec2<f32> {
    reduce_values[lid] = v;
    workgroupBarrier();
    if lid < REDUCE_GROUP {
        let first = lid * REDUCE_GROUP;
        var sum = reduce_values[first];
        for (var i = 1u; i < REDUCE_GROUP; i += 1u) {
            sum += reduce_values[first + i];
        }
        reduce_groups[lid] = sum;
    }
    workgroupBarrier();
    let own = lid / ROW_LANES * (ROW_LANES / REDUCE_GROUP);
    var total = reduce_groups[own];
    for (var i = own + 1u; i < own + ROW_LANES / REDUCE_GROUP; i += 1u) {
        total += reduce_groups[i];
    }
    return total;
}

fn reduce_sum(lid: u32, v: f32) -> f32 {
    return reduce_sum2(lid, vec2<f32>(v, 0.0)).x;
}

fn reduce_max(lid: u32, v: f32) -> f32 {
    reduce_values[lid] = vec2<f32>(v, 0.0);
    workgroupBarrier();
    if lid < REDUCE_GROUP {
        let first = lid * REDUCE_GROUP;
        var top = reduce_values[first].x;
        for (var i = 1u; i < REDUCE_GROUP; i += 1u) {
            top = max(top, reduce_values[first + i].x);
        }
        reduce_groups[lid] = vec2<f32>(top, 0.0);
    }
    workgroupBarrier();
    let own = lid / ROW_LANES * (ROW_LANES / REDUCE_GROUP);
    var highest = reduce_groups[own].x;
    for (var i = own + 1u; i < own + ROW_LANES / REDUCE_GROUP; i += 1u) {
        highest = max(highest, reduce_groups[i].x);
    }
    return highest;
}
