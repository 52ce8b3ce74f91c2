// step_control: what one training step needs to know about all gradients together, decided on the device
//
//   norm = sqrt(sum of partials) / (loss scale * micro-batches)
//   step:  multiplier = min(1, clip / (norm + 1e-6)) / (loss scale * micro-batches);  k += 1;  b1^k, b2^k move on;
//          good steps += 1, and after 200 in a row a dynamic loss scale doubles, up to 2^24
//   skip:  when norm is not finite: multiplier = 0, skipped += 1, good steps = 0, and a dynamic loss scale halves; k and
//          its powers stay, so that the corrections of the moments stay right
//
// Shapes: partials (4 cells) f32, from `sum_squares`; control (16) u32, words as named below, f32 as bits;
//         loss_scale () f32: the scale of the next step, with which its backward pass begins.
// Work:   one workgroup of 64; the sum in a fixed order, the decisions by its first invocation.
// Cost:   a few thousand additions. What it saves is the read-back: the host never waits to learn whether to skip.

struct Params {
    cells: u32,
    dynamic: u32,       // 1: the loss scale moves (f16 storage); 0: it stays (f32)
    clip: f32,          // largest norm; 0: no clipping
    beta1: f32,
    beta2: f32,
    micro_batches: f32, // how many gradients were added up; the update uses their mean
}

@group(0) @binding(0) var<storage, read> partials: array<vec4<f32>>;
@group(0) @binding(1) var<storage, read_write> control: array<u32>;
@group(0) @binding(2) var<storage, read_write> loss_scale: array<vec4<f32>>;

const LOSS_SCALE = 0u;
const GOOD_STEPS = 1u;
const UPDATES = 2u;     // k
const POWER1 = 3u;      // b1^k
const POWER2 = 4u;      // b2^k
const SKIP = 5u;
const NORM = 6u;
const MULTIPLIER = 7u;  // of every gradient element in this step
const SKIPPED = 8u;
const REST1 = 9u;       // 1 - b1^k
const REST2 = 10u;      // 1 - b2^k

const GROWTH_INTERVAL = 200u;
const LARGEST_SCALE = 16777216.0;       // 2^24
const SMALLEST_SCALE = 1.17549435e-38;  // the smallest normal f32: a scale of 0 could never grow again

// Fixed by the tree of the reduce part.
override WORKGROUP: u32 = 64u;

fn skip_step(scale: f32) {
    control[SKIP] = 1u;
    control[MULTIPLIER] = 0u;
    control[SKIPPED] = control[SKIPPED] + 1u;
    control[GOOD_STEPS] = 0u;
    if (p.dynamic == 1u) {
        control[LOSS_SCALE] = bitcast<u32>(max(scale * 0.5, SMALLEST_SCALE));
    }
}

fn take_step(scale: f32, norm: f32) {
    var shrink = 1.0;
    if (p.clip > 0.0) {
        shrink = min(1.0, p.clip / (norm + 1e-6));
    }
    control[SKIP] = 0u;
    control[MULTIPLIER] = bitcast<u32>(shrink / (scale * p.micro_batches));
    control[UPDATES] = control[UPDATES] + 1u;
    let power1 = bitcast<f32>(control[POWER1]) * p.beta1;
    let power2 = bitcast<f32>(control[POWER2]) * p.beta2;
    control[POWER1] = bitcast<u32>(power1);
    control[POWER2] = bitcast<u32>(power2);
    control[REST1] = bitcast<u32>(1.0 - power1);
    control[REST2] = bitcast<u32>(1.0 - power2);
    let good = control[GOOD_STEPS] + 1u;
    let grow = p.dynamic == 1u && good >= GROWTH_INTERVAL;
    control[GOOD_STEPS] = select(good, 0u, grow);
    if (grow) {
        control[LOSS_SCALE] = bitcast<u32>(min(scale * 2.0, LARGEST_SCALE));
    }
}

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    if (group_index(wid, count) > 0u) {
        return;
    }
    var sums = vec4<f32>(0.0);
    for (var cell = lid; cell < p.cells; cell += WORKGROUP) {
        sums += partials[cell];
    }
    let squares = reduce_sum(lid, dot(sums, vec4<f32>(1.0)));
    if (lid != 0u) {
        return;
    }
    let scale = bitcast<f32>(control[LOSS_SCALE]);
    let norm = sqrt(squares) / (scale * p.micro_batches);
    control[NORM] = bitcast<u32>(norm);
    // By bits: compilers may assume that no NaN exists and drop a comparison that only a NaN would fail.
    if ((bitcast<u32>(norm) & 0x7f800000u) == 0x7f800000u) {
        skip_step(scale);
    } else {
        take_step(scale, norm);
    }
    loss_scale[0] = vec4<f32>(bitcast<f32>(control[LOSS_SCALE]), 0.0, 0.0, 0.0);
}
