// Sums and maxima over a workgroup of 64 invocations.
//
// Two levels through workgroup memory: each of the first 8 invocations adds 8 of the 64 values,
// then every invocation adds those 8 sums for itself. A binary tree would need six levels and a
// barrier after each, and a barrier is what a software driver pays for. The order is fixed, so the
// same input gives the same bits. The result is valid in all invocations.
//
// Every invocation must reach the two barriers: call from uniform control flow only. Calls may
// follow one another without a barrier between them: whoever writes `reduce_values` again has
// passed the second barrier, after its last read, and whoever writes `reduce_groups` again has
// passed the next call's first barrier, which nobody reaches before having read the old sums.

const REDUCE = 64u;
const REDUCE_GROUP = 8u;

var<workgroup> reduce_values: array<f32, REDUCE>;
var<workgroup> reduce_groups: array<f32, REDUCE_GROUP>;

fn reduce_sum(lid: u32, v: f32) -> f32 {
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
    var total = reduce_groups[0];
    for (var i = 1u; i < REDUCE_GROUP; i += 1u) {
        total += reduce_groups[i];
    }
    return total;
}

fn reduce_max(lid: u32, v: f32) -> f32 {
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
    var highest = reduce_groups[0];
    for (var i = 1u; i < REDUCE_GROUP; i += 1u) {
        highest = max(highest, reduce_groups[i]);
    }
    return highest;
}
