// ema: average = ema average + (1 - ema) source
//
// Shapes: source, average (n) f32, in place; working (n) the copy of the average that the model's kernels read;
//         control, schedule (16) u32: word 5 of control says skip, word 4 of schedule is ema as the bits of an f32.
// Work:   one invocation moves CELLS cells of four neighbours, WORKGROUP apart.
// Cost:   3 FLOPs, 12 bytes (14 with a copy in halves) an element: bandwidth only.
//
// The target encoder follows the trained one this way: it moves slowly enough to be worth predicting (Grill et al. 2020;
// Assran et al. 2023). It must run after the update, in which the source moved.

struct Params {
    cells: u32,
}

@group(0) @binding(0) var<storage, read> control: array<u32>;
@group(0) @binding(1) var<storage, read> schedule: array<u32>;
@group(0) @binding(2) var<storage, read> source: array<Floats>;
@group(0) @binding(3) var<storage, read_write> average: array<Floats>;
@group(0) @binding(4) var<storage, read_write> working: array<Stored4>;

const SKIP = 5u;
const EMA = 4u;

// Any multiple of the device's subgroup works; nothing is shared between invocations.
override WORKGROUP: u32 = 256u;
// Cells per invocation: several where every load of the words in `control` and `schedule` counts.
override CELLS: u32 = 1u;
// Whether `working` is a copy of its own that follows `average`, not a stand-in that is never touched.
override WRITE_WORKING: bool = false;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let start = group_index(wid, count) * (CELLS * WORKGROUP) + lid;
    if (start >= p.cells || control[SKIP] == 1u) {
        return;
    }
    let keep = bitcast<f32>(schedule[EMA]);
    for (var cell = start; cell < min(start + CELLS * WORKGROUP, p.cells); cell += WORKGROUP) {
        let moved = keep * floats(average[cell]) + (1.0 - keep) * floats(source[cell]);
        average[cell] = cell_of_floats(moved);
        if (WRITE_WORKING) { working[cell] = pack4(moved); }
    }
}
