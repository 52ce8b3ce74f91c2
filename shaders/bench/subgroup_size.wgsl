// How many invocations share a cooperative matrix: a driver that knows subgroups of several sizes chooses one for each kernel, and for
// those with such matrices by a rule of its own (RADV: 64 lanes always, 32 elsewhere). So a kernel that has one says what it got.
//
// size (1) u32. Work: one workgroup, whose subgroups all multiply the same zeros.
// Cost: none to speak of; it runs once, when a device is opened whose subgroups have no one size.

struct Params {
    unused: u32,
}

@group(0) @binding(0) var<storage, read_write> size: array<u32>;

var<workgroup> tiles: array<Staged, 256>;
var<workgroup> sums: array<f32, 256>;

@compute @workgroup_size(64)
fn main(@builtin(local_invocation_index) lid: u32, @builtin(subgroup_size) lanes: u32) {
    for (var cell = lid; cell < MATRIX * MATRIX / 4u; cell += 64u) { stage(cell, vec4<f16>()); }
    workgroupBarrier();
    let a = coopLoadT<MatrixA>(&tiles[0], STAGED * (MATRIX / 4u));
    let b = coopLoadT<MatrixB>(&tiles[0], STAGED * (MATRIX / 4u));
    let stride = MATRIX;
    coopStoreT(coopMultiplyAdd(a, b, MatrixC()), &sums[0], stride);
    workgroupBarrier();
    // The product is zero, and a compiler does not know.
    if (lid == 0u) { size[0] = select(0u, lanes, sums[0] == 0.0); }
}
