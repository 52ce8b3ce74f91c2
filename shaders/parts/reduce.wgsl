// Sums and maxima over a workgroup of 64 invocations.
//
// A tree over workgroup memory: 64 values become 8 (each of the first 8 invocations adds 8 of
// them in order), then every invocation adds those 8 itself. Two levels instead of six halve the
// number of barriers twice over, and a barrier is what a software driver pays for. The order is
// fixed, so the same input gives the same bits. The result is valid in all invocations.
//
// Both functions begin and end with a barrier that every invocation must reach: call them from
// uniform control flow only. The first one keeps this call's writes behind the reads of the
// previous call, so they may be called one after another.

const REDUCE = 64u;
const REDUCE_GROUP = 8u;

var<workgroup> reduce_values: array<f32, REDUCE>;
var<workgroup> reduce_groups: array<f32, REDUCE_GROUP>;

fn reduce_sum(lid: u32, v: f32) -> f32 {
    workgroupBarrier();
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
    var sum = reduce_groups[0];
    for (var i = 1u; i < REDUCE_GROUP; i += 1u) {
        sum += reduce_groups[i];
    }
    workgroupBarrier();
    return sum;
}

fn reduce_max(lid: u32, v: f32) -> f32 {
    workgroupBarrier();
    reduce_values[lid] = v;
    workgroupBarrier();
    if lid < REDUCE_GROUP {
        let first = lid * REDUCE_GROUP;
        var top = reduce_values[first];
        for (var i = 1u; i < REDUCE_GROUP; i += 1u) {
            top = max(top, reduce_values[first + i]);
        }
        reduce_groups[lid] = top;
    }
    workgroupBarrier();
    var top = reduce_groups[0];
    for (var i = 1u; i < REDUCE_GROUP; i += 1u) {
        top = max(top, reduce_groups[i]);
    }
    workgroupBarrier();
    return top;
}
