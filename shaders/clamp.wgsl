// clamp: x = min(max(x, low), high)
//
// Shapes: x (rows, width) f32, in place; working (rows, width) the copy that the model's kernels read;
//         control (16) u32: word 5 says that the step is skipped, and then nothing may change.
// Work:   one invocation bounds one cell of four neighbours.
// Cost:   2 FLOPs and 8 bytes an element. It holds single parameters in bounds, such as the logit scale.

struct Params {
    rows: u32,
    width: u32,
    cells: u32, // of a row
    low: f32,
    high: f32,
}

@group(0) @binding(0) var<storage, read> control: array<u32>;
@group(0) @binding(1) var<storage, read_write> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read_write> working: array<Stored4>;

const SKIP = 5u;

// Any multiple of the device's subgroup works; nothing is shared between invocations.
override WORKGROUP: u32 = 64u;
// Whether `working` is a copy of its own that follows `x`, not a stand-in that is never touched.
override WRITE_WORKING: bool = false;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let cell = group_index(wid, count) * WORKGROUP + lid;
    if (cell >= p.rows * p.cells || control[SKIP] == 1u) {
        return;
    }
    // Past the end of a row lie zeros, and zeros they stay though 0 be out of bounds.
    let column = vec4<u32>(4u * (cell % p.cells)) + vec4<u32>(0u, 1u, 2u, 3u);
    let bounded = min(max(x[cell], vec4<f32>(p.low)), vec4<f32>(p.high));
    let result = select(vec4<f32>(0.0), bounded, column < vec4<u32>(p.width));
    x[cell] = result;
    if (WRITE_WORKING) {
        working[cell] = pack4(result);
    }
}
