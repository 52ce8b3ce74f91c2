// Two matrices of each of the eight invocations of a subgroup, shown to all of them. Elsewhere parts/given_any.wgsl stands here.
// All invocations must take part, since one that returned early would show nothing.

struct Two { low: mat4x4<f32>, high: mat4x4<f32> }

// To be called before the others, with the same matrices.
fn show(lane: u32, own: Two) {}

// Those of invocation 0, and so on.
fn shown0(own: Two) -> Two { return Two(of_lane0(own.low), of_lane0(own.high)); }
fn shown1(own: Two) -> Two { return Two(of_lane1(own.low), of_lane1(own.high)); }
fn shown2(own: Two) -> Two { return Two(of_lane2(own.low), of_lane2(own.high)); }
fn shown3(own: Two) -> Two { return Two(of_lane3(own.low), of_lane3(own.high)); }
fn shown4(own: Two) -> Two { return Two(of_lane4(own.low), of_lane4(own.high)); }
fn shown5(own: Two) -> Two { return Two(of_lane5(own.low), of_lane5(own.high)); }
fn shown6(own: Two) -> Two { return Two(of_lane6(own.low), of_lane6(own.high)); }
fn shown7(own: Two) -> Two { return Two(of_lane7(own.low), of_lane7(own.high)); }

fn of_lane0(m: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(subgroupBroadcast(m[0], 0u), subgroupBroadcast(m[1], 0u), subgroupBroadcast(m[2], 0u),
        subgroupBroadcast(m[3], 0u));
}
fn of_lane1(m: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(subgroupBroadcast(m[0], 1u), subgroupBroadcast(m[1], 1u), subgroupBroadcast(m[2], 1u),
        subgroupBroadcast(m[3], 1u));
}
fn of_lane2(m: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(subgroupBroadcast(m[0], 2u), subgroupBroadcast(m[1], 2u), subgroupBroadcast(m[2], 2u),
        subgroupBroadcast(m[3], 2u));
}
fn of_lane3(m: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(subgroupBroadcast(m[0], 3u), subgroupBroadcast(m[1], 3u), subgroupBroadcast(m[2], 3u),
        subgroupBroadcast(m[3], 3u));
}
fn of_lane4(m: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(subgroupBroadcast(m[0], 4u), subgroupBroadcast(m[1], 4u), subgroupBroadcast(m[2], 4u),
        subgroupBroadcast(m[3], 4u));
}
fn of_lane5(m: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(subgroupBroadcast(m[0], 5u), subgroupBroadcast(m[1], 5u), subgroupBroadcast(m[2], 5u),
        subgroupBroadcast(m[3], 5u));
}
fn of_lane6(m: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(subgroupBroadcast(m[0], 6u), subgroupBroadcast(m[1], 6u), subgroupBroadcast(m[2], 6u),
        subgroupBroadcast(m[3], 6u));
}
fn of_lane7(m: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(subgroupBroadcast(m[0], 7u), subgroupBroadcast(m[1], 7u), subgroupBroadcast(m[2], 7u),
        subgroupBroadcast(m[3], 7u));
}
