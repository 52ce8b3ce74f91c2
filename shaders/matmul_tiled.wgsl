// C[b] = op(A[b]) op(B[b]), then an epilogue: the product for GPUs, through tiles in workgroup memory.
//
// Shapes, strides and padding as in matmul.wgsl, the variant for processors that play GPU; parts/patches.wgsl lets rows lie in
// images.
// Work: a workgroup owns 8 ROW_LANES x 8 COLUMN_LANES values of C, an invocation 8 x 8 of them: two groups of four rows by
// two cells of four columns, in 4x4 matrices whose columns are rows of C. DEPTH steps along K at a time lie in workgroup
// memory as [step][line], a line being a row of op(A) or a column of op(B). An invocation loads one block of four lines by
// four steps, turns it where memory runs along K, and loads the next one while the tile is being multiplied.
// Banks: the cells of a step are permuted (XOR with the step), so that neither the stores of turned blocks nor the reads
// of eight neighbours meet in a bank; 32 invocations read 4 cells of A and 8 of B for each step.
// Cost, at 128 x 128 x 16 (256 invocations): 2 M N K FLOPs. Device memory or cache: 16 KiB for 524,288 FLOPs, 32 FLOPs per
// byte (64 with halves). Workgroup memory: 64 bytes for 128 FLOPs, which a processor with 128 lanes and 128 bytes a clock
// just feeds; 2 barriers for 1,024 multiply-adds of an invocation. 16 KiB, about 120 registers. Predicted share of the
// multiply-add peak on such a GPU: 60 to 80 %; not measured.

override TRANS_A: bool = false;
override TRANS_B: bool = false;
override ROW_LANES: u32 = 16u;     // invocations along the rows of C, a multiple of 8
override COLUMN_LANES: u32 = 16u;  // invocations along its columns, a multiple of 8
override DEPTH: u32 = 16u;         // 8 or 16, at most 32 ROW_LANES COLUMN_LANES / (8 (ROW_LANES + COLUMN_LANES))
override WORKGROUP: u32 = 256u;    // ROW_LANES COLUMN_LANES

@group(0) @binding(0) var<storage, read> a: array<Stored4>;
@group(0) @binding(1) var<storage, read> b: array<Stored4>;
@group(0) @binding(2) var<storage, read_write> c: array<Output4>;

var<workgroup> tile_a: array<vec4<f32>, 2u * ROW_LANES * DEPTH>;
var<workgroup> tile_b: array<vec4<f32>, 2u * COLUMN_LANES * DEPTH>;

const FOUR = vec4(0u, 1u, 2u, 3u);

// Which block of a tile invocation `i` loads: (group of four lines, group of four steps). Neighbours follow memory.
fn block(i: u32, groups: u32, along_k: bool) -> vec2<u32> {
    return select(vec2(i % groups, i / groups), vec2(i / (DEPTH / 4u), i % (DEPTH / 4u)), along_k);
}

// The four cells of a block in memory. What lies outside repeats something inside.
fn cells(owner: u32, along_k: bool, line: u32, lines: u32, k: u32, base: u32, stride: u32) -> vec4<u32> {
    let patches = PATCHES == owner;
    let along = place(patches, base, min(vec4(line) + FOUR, vec4(lines - 1u)), vec4(min(k, p.inner - 1u) / 4u), stride);
    let across = place(patches, base, min(vec4(k) + FOUR, vec4(p.inner - 1u)), vec4(min(line, lines - 1u) / 4u), stride);
    return select(across, along, along_k);
}

// A block as four steps of four lines; steps past K are zero.
fn steps(along_k: bool, x: mat4x4<f32>, k: u32) -> mat4x4<f32> {
    var s = x;
    if (along_k) { s = transpose(x); }
    let z = vec4<f32>();
    let live = vec4(k) + FOUR < vec4(p.inner);
    return mat4x4(select(z, s[0], live.x), select(z, s[1], live.y), select(z, s[2], live.z), select(z, s[3], live.w));
}

// The block of invocation `lid`: the first ones load A, the next ones B.
fn load(lid: u32, row: u32, column: u32, base: vec2<u32>, k: u32) -> mat4x4<f32> {
    if (lid < ROW_LANES * DEPTH / 2u) {
        let at = 4u * block(lid, 2u * ROW_LANES, !TRANS_A) + vec2(row, k);
        let i = cells(OF_A, !TRANS_A, at.x, p.rows, at.y, base.x, p.a_row);
        return steps(!TRANS_A, mat4x4(unpack4(a[i.x]), unpack4(a[i.y]), unpack4(a[i.z]), unpack4(a[i.w])), at.y);
    }
    let at = 4u * block(lid - ROW_LANES * DEPTH / 2u, 2u * COLUMN_LANES, TRANS_B) + vec2(column, k);
    let i = cells(OF_B, TRANS_B, at.x, p.width, at.y, base.y, p.b_row);
    return steps(TRANS_B, mat4x4(unpack4(b[i.x]), unpack4(b[i.y]), unpack4(b[i.z]), unpack4(b[i.w])), at.y);
}

// Where the cells of the four steps of group `k` are permuted to.
fn permuted(cell: u32, k: u32) -> u32 {
    return cell ^ (k * (32u / DEPTH));
}

fn stage(lid: u32, s: mat4x4<f32>) {
    let of_b = lid - ROW_LANES * DEPTH / 2u;
    if (lid < ROW_LANES * DEPTH / 2u) {
        let at = block(lid, 2u * ROW_LANES, !TRANS_A);
        let i = 8u * ROW_LANES * at.y + permuted(at.x, at.y);
        tile_a[i] = s[0]; tile_a[i + 2u * ROW_LANES] = s[1];
        tile_a[i + 4u * ROW_LANES] = s[2]; tile_a[i + 6u * ROW_LANES] = s[3];
    } else if (of_b < COLUMN_LANES * DEPTH / 2u) {
        let at = block(of_b, 2u * COLUMN_LANES, TRANS_B);
        let i = 8u * COLUMN_LANES * at.y + permuted(at.x, at.y);
        tile_b[i] = s[0]; tile_b[i + 2u * COLUMN_LANES] = s[1];
        tile_b[i + 4u * COLUMN_LANES] = s[2]; tile_b[i + 6u * COLUMN_LANES] = s[3];
    }
}

// Rows of op(A), A stored transposed: invocations lid, lid + 2 ROW_LANES, ... have loaded one cell of four of them.
fn store_row_sums(lid: u32, batch: u32, cell: u32, sum: vec4<f32>) {
    workgroupBarrier();
    if (lid < ROW_LANES * DEPTH / 2u) { tile_a[lid] = sum; }
    workgroupBarrier();
    if (lid >= 2u * ROW_LANES || 4u * cell >= p.rows) { return; }
    var total = tile_a[lid];
    for (var i = lid + 2u * ROW_LANES; i < ROW_LANES * DEPTH / 2u; i += 2u * ROW_LANES) { total += tile_a[i]; }
    put_row_sums(batch * ((p.rows + 3u) / 4u) + cell, total);
}

// Four rows of C grow by four values of A times four of B.
fn add(sum: mat4x4<f32>, x: vec4<f32>, y: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(sum[0] + x.x * y, sum[1] + x.y * y, sum[2] + x.z * y, sum[3] + x.w * y);
}

fn store_row(batch: u32, row: u32, cell: u32, sum: vec4<f32>) {
    if (row >= p.rows || 4u * cell >= p.width) { return; }
    // The padding of a row stays zero whatever stood in for the missing columns of B.
    let value = select(vec4(0.0), sum, vec4(4u * cell) + FOUR < vec4(p.width));
    let at = place(PATCHES == OF_C, batch * p.c_batch, vec4(row), vec4(cell), p.c_row).x;
    c[at] = pack_output4(epilogue(at, batch * p.bias_batch + bias_place(cell), value));
}

fn store(batch: u32, row: u32, cell: u32, sum: mat4x4<f32>) {
    store_row(batch, row, cell, sum[0]); store_row(batch, row + 1u, cell, sum[1]);
    store_row(batch, row + 2u, cell, sum[2]); store_row(batch, row + 3u, cell, sum[3]);
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let group = wid.x + wid.y * count.x;  // group_index, in place: what follows must be seen to be uniform
    let batch = group / (p.row_tiles * p.column_tiles);
    if (batch >= p.batches) { return; }
    // Row tiles run fastest: neighbours share a panel of B.
    let row = group % p.row_tiles * (8u * ROW_LANES);
    let column = group / p.row_tiles % p.column_tiles * (8u * COLUMN_LANES);
    let base = batch * vec2(p.a_batch, p.b_batch);
    // 32 neighbours form a patch of 4 x 8 invocations.
    let y = lid / 8u % 4u + lid / (4u * COLUMN_LANES) * 4u;
    let x = lid % 8u + lid / 32u % (COLUMN_LANES / 8u) * 8u;
    var c00 = mat4x4<f32>(); var c01 = mat4x4<f32>(); var c10 = mat4x4<f32>(); var c11 = mat4x4<f32>();
    var next = load(lid, row, column, base, 0u);
    var sums = vec4<f32>();
    for (var k = 0u; k < p.inner; k += DEPTH) {
        workgroupBarrier();
        stage(lid, next);
        workgroupBarrier();
        if (ROW_SUMS && column == 0u) { sums += next[0] + next[1] + next[2] + next[3]; }
        if (k + DEPTH < p.inner) { next = load(lid, row, column, base, k + DEPTH); }
        for (var s = 0u; s < DEPTH; s += 1u) {
            let i = 2u * ROW_LANES * s + permuted(y, s / 4u);
            let j = 2u * COLUMN_LANES * s + permuted(x, s / 4u);
            let a0 = tile_a[i]; let a1 = tile_a[i + ROW_LANES]; let b0 = tile_b[j]; let b1 = tile_b[j + COLUMN_LANES];
            c00 = add(c00, a0, b0); c01 = add(c01, a0, b1);
            c10 = add(c10, a1, b0); c11 = add(c11, a1, b1);
        }
    }
    if (ROW_SUMS && column == 0u) { store_row_sums(lid, batch, row / 4u + lid, sums); }
    store(batch, row + 4u * y, column / 4u + x, c00);
    store(batch, row + 4u * y, column / 4u + x + COLUMN_LANES, c01);
    store(batch, row + 4u * (y + ROW_LANES), column / 4u + x, c10);
    store(batch, row + 4u * (y + ROW_LANES), column / 4u + x + COLUMN_LANES, c11);
}
