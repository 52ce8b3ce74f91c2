// Ceiling of cooperative matrices: C = C + A B, four results in registers, which start at 0 to 3 A B, `steps` times; y is their sum.
//
// table (2 MATRIX x MATRIX) halves, A and then B; y (workgroups, MATRIX, MATRIX) F32. A and B are loaded once, through
// workgroup memory.
// Work: one subgroup per workgroup, which owns four results.
// Cost: 8 MATRIX^3 FLOPs per step and workgroup.

override SUBGROUP: u32 = 32u;

struct Params {
    steps: u32,
    groups: u32,
    size: u32,  // MATRIX, for the twin
}

@group(0) @binding(0) var<storage, read> table: array<Stored4>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;

// Room for two matrices of 16 x 16, in cells or one by one.
var<workgroup> tiles: array<Staged, 512>;

@compute @workgroup_size(SUBGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let group = wid.x + wid.y * count.x;
    if (group >= p.groups) { return; }
    for (var i = lid; i < MATRIX * MATRIX / 2u; i += SUBGROUP) { stage(i, table[i]); }
    workgroupBarrier();
    let pitch = STAGED * (MATRIX / 4u);
    let a = coopLoadT<MatrixA>(&tiles[0], pitch);
    let b = coopLoadT<MatrixB>(&tiles[STAGED * (MATRIX * MATRIX / 4u)], pitch);
    // Every result starts elsewhere, or a compiler would compute one and copy it.
    var c0 = MatrixC();
    var c1 = coopMultiplyAdd(a, b, c0);
    var c2 = coopMultiplyAdd(a, b, c1);
    var c3 = coopMultiplyAdd(a, b, c2);
    for (var step = 0u; step < p.steps; step++) {
        c0 = coopMultiplyAdd(a, b, c0);
        c1 = coopMultiplyAdd(a, b, c1);
        c2 = coopMultiplyAdd(a, b, c2);
        c3 = coopMultiplyAdd(a, b, c3);
    }
    let sum = c0 + c1 + c2 + c3;
    let first = group * MATRIX * MATRIX;
    let stride = MATRIX;
    coopStoreT(sum, &y[first], stride);
}
