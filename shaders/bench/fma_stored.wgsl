// Ceiling of multiply-adds on stored values: each cell of a small table is loaded, converted, and used eight times.
//   x_j = x_j + table[.] * factor^(j + 1) for j in 0..8, `steps` times; y is the sum of the x_j.
//
// table (1024) cells Stored, small enough for the nearest cache; y (invocations) cells F32.
// Work: one invocation owns eight vec4 in registers and one cell of y; neighbours read neighbouring cells.
// Cost: per step and invocation one load, one conversion and 8 multiply-adds of four numbers, at two FLOPs each number.

const TABLE = 1024u;

struct Params {
    steps: u32,
    cells: u32,
    factor: f32,
}

@group(0) @binding(0) var<storage, read> table: array<Stored4>;
@group(0) @binding(1) var<storage, read_write> y: array<vec4<f32>>;

override WORKGROUP: u32 = 64u;

@compute @workgroup_size(WORKGROUP)
fn main(
    @builtin(workgroup_id) wid: vec3<u32>,
    @builtin(num_workgroups) count: vec3<u32>,
    @builtin(local_invocation_index) lid: u32,
) {
    let i = group_index(wid, count) * WORKGROUP + lid;
    if i >= p.cells {
        return;
    }
    var x0 = vec4(0.0);
    var x1 = vec4(0.1);
    var x2 = vec4(0.2);
    var x3 = vec4(0.3);
    var x4 = vec4(0.4);
    var x5 = vec4(0.5);
    var x6 = vec4(0.6);
    var x7 = vec4(0.7);
    // Powers of one factor that the compiler does not know: eight different multipliers.
    let f0 = p.factor;
    let f1 = f0 * p.factor;
    let f2 = f1 * p.factor;
    let f3 = f2 * p.factor;
    let f4 = f3 * p.factor;
    let f5 = f4 * p.factor;
    let f6 = f5 * p.factor;
    let f7 = f6 * p.factor;
    for (var step = 0u; step < p.steps; step++) {
        let v = unpack4(table[(step * WORKGROUP + lid) % TABLE]);
        x0 += v * f0;
        x1 += v * f1;
        x2 += v * f2;
        x3 += v * f3;
        x4 += v * f4;
        x5 += v * f5;
        x6 += v * f6;
        x7 += v * f7;
    }
    y[i] = ((x0 + x1) + (x2 + x3)) + ((x4 + x5) + (x6 + x7));
}
