// Two matrices of each of the eight invocations of a workgroup, shown to all of them, here through workgroup memory: 1 KiB and two
// barriers. Where eight invocations are a subgroup parts/given_eight.wgsl stands here.
// All invocations must take part, from uniform control flow.

struct Two { low: mat4x4<f32>, high: mat4x4<f32> }

var<workgroup> given_columns: array<vec4<f32>, 64>;

// To be called before the others, with the same matrices.
fn show(lane: u32, own: Two) {
    workgroupBarrier();
    let i = 8u * lane;
    given_columns[i] = own.low[0]; given_columns[i + 1u] = own.low[1];
    given_columns[i + 2u] = own.low[2]; given_columns[i + 3u] = own.low[3];
    given_columns[i + 4u] = own.high[0]; given_columns[i + 5u] = own.high[1];
    given_columns[i + 6u] = own.high[2]; given_columns[i + 7u] = own.high[3];
    workgroupBarrier();
}

// Those of invocation 0, and so on.
fn shown0(own: Two) -> Two { return of_lane(0u); }
fn shown1(own: Two) -> Two { return of_lane(1u); }
fn shown2(own: Two) -> Two { return of_lane(2u); }
fn shown3(own: Two) -> Two { return of_lane(3u); }
fn shown4(own: Two) -> Two { return of_lane(4u); }
fn shown5(own: Two) -> Two { return of_lane(5u); }
fn shown6(own: Two) -> Two { return of_lane(6u); }
fn shown7(own: Two) -> Two { return of_lane(7u); }

fn of_lane(lane: u32) -> Two {
    let i = 8u * lane;
    return Two(mat4x4(given_columns[i], given_columns[i + 1u], given_columns[i + 2u], given_columns[i + 3u]),
        mat4x4(given_columns[i + 4u], given_columns[i + 5u], given_columns[i + 6u], given_columns[i + 7u]));
}
