// Ceiling of multiply-adds: x = x * scale + shift on four or eight vec4 in registers, 4 `steps` times; y is their sum.
//
// y (invocations) cells F32. Nothing is loaded, every result is used, and no two chains depend on each other.
// Work: one invocation owns its chains and one cell of y.
// Cost: 8 CHAINS multiply-adds of four numbers per step and invocation, at two FLOPs each number.

override CHAINS: u32 = 8u;     // vec4 in flight, 4 or 8: a device with few registers is faster with 4
override FUSED: bool = false;  // spell it fma(x, scale, shift); drivers that emulate that are slow at it

struct Params {
    steps: u32,
    cells: u32,
    scale: f32,
    shift: f32,
}

@group(0) @binding(0) var<storage, read_write> y: array<vec4<f32>>;

override WORKGROUP: u32 = 64u;

fn one(x: vec4<f32>) -> vec4<f32> {
    if FUSED {
        return fma(x, vec4(p.scale), vec4(p.shift));
    }
    return x * p.scale + p.shift;
}

fn four(x: vec4<f32>) -> vec4<f32> {
    return one(one(one(one(x))));
}

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
    // Every chain starts elsewhere, or a compiler would compute one and copy it.
    let first = vec4(f32(i % 64u)) * 0.01 + vec4(0.0, 0.1, 0.2, 0.3);
    var x0 = first;
    var x1 = first + 0.4;
    var x2 = first + 0.8;
    var x3 = first + 1.2;
    var x4 = first + 1.6;
    var x5 = first + 2.0;
    var x6 = first + 2.4;
    var x7 = first + 2.8;
    for (var step = 0u; step < p.steps; step++) {
        x0 = four(x0);
        x1 = four(x1);
        x2 = four(x2);
        x3 = four(x3);
        if CHAINS > 4u {
            x4 = four(x4);
            x5 = four(x5);
            x6 = four(x6);
            x7 = four(x7);
        }
    }
    y[i] = ((x0 + x1) + (x2 + x3)) + ((x4 + x5) + (x6 + x7));
}
