// adamw: one update of decoupled-decay Adam (Loshchilov and Hutter 2019), in place, for update k = 1, 2, ...
//
//   g = multiplier * grad                        loss scale and clipping taken out in one factor
//   w = w (1 - lr decay)
//   m = b1 m + (1 - b1) g;   v = b2 v + (1 - b2) g^2
//   w = w - lr (m / (1 - b1^k)) / (sqrt(v / (1 - b2^k)) + eps)
//
// Shapes: grad, weight, m, v (n) f32; working (n) the copy that the kernels of the model read; control, schedule (16) u32
//         with f32 as bits: what this step decided (`step_control`) and what the host says about it.
// Work:   one invocation updates CELLS cells of four neighbours, WORKGROUP apart. Parameters lie one after another in an arena, so that a
//         whole model is a launch or two; between them lie zeros, which stay zeros (0 / (0 + eps)).
// Cost:   about 15 FLOPs, 28 bytes (30 with a copy in halves) an element: bandwidth only. Fused, because seven separate
//         passes over the moments would cost three times the bytes.

struct Params {
    cells: u32,
    beta1: f32,
    beta2: f32,
    rest1: f32, // 1 - b1, from the host: in f32 the subtraction would lose the digits of b1 that matter
    rest2: f32, // 1 - b2
    eps: f32,
    decay: f32, // 0: no weight decay
}

@group(0) @binding(0) var<storage, read> control: array<u32>;
@group(0) @binding(1) var<storage, read> schedule: array<u32>;
@group(0) @binding(2) var<storage, read> grad: array<Floats>;
@group(0) @binding(3) var<storage, read_write> weight: array<Floats>;
@group(0) @binding(4) var<storage, read_write> m: array<Floats>;
@group(0) @binding(5) var<storage, read_write> v: array<Floats>;
@group(0) @binding(6) var<storage, read_write> working: array<Stored4>;

const SKIP = 5u;
const MULTIPLIER = 7u;
const REST1 = 9u;
const REST2 = 10u;
const LEARNING_RATE = 3u;

// Any multiple of the device's subgroup works; nothing is shared between invocations.
override WORKGROUP: u32 = 256u;
// Cells per invocation: several where every load of the words in `control` and `schedule` counts.
override CELLS: u32 = 1u;
// Whether `working` is a copy of its own that follows `weight`, not a stand-in that is never touched.
override WRITE_WORKING: bool = false;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let start = group_index(wid, count) * (CELLS * WORKGROUP) + lid;
    // A skipped step is not a step with gradient 0: the moments would fade and the decay would still pull.
    if (start >= p.cells || control[SKIP] == 1u) {
        return;
    }
    let rate = bitcast<f32>(schedule[LEARNING_RATE]);
    let multiplier = bitcast<f32>(control[MULTIPLIER]);
    let rest1 = bitcast<f32>(control[REST1]);
    let rest2 = bitcast<f32>(control[REST2]);
    for (var cell = start; cell < min(start + CELLS * WORKGROUP, p.cells); cell += WORKGROUP) {
        let g = floats(grad[cell]) * multiplier;
        let first = p.beta1 * floats(m[cell]) + p.rest1 * g;
        let second = p.beta2 * floats(v[cell]) + p.rest2 * g * g;
        let mean = first / rest1;
        let root = sqrt(second / rest2);
        let decayed = floats(weight[cell]) * (1.0 - rate * p.decay);
        let updated = decayed - rate * mean / (root + p.eps);
        m[cell] = cell_of_floats(first);
        v[cell] = cell_of_floats(second);
        weight[cell] = cell_of_floats(updated);
        if (WRITE_WORKING) { working[cell] = pack4(updated); }
    }
}
