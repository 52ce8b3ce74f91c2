// C[b] = op(A[b]) op(B[b]), then an epilogue: the product for GPUs, through tiles in workgroup memory.
// Shapes, strides and padding as in matmul.wgsl, which is for processors that play GPU; parts/patches.wgsl lets rows lie in images.
// Work: a workgroup owns 8 ROW_LANES x 8 COLUMN_LANES values of C, an invocation 8 x 8 of them: two groups of four rows by two cells
// of four columns, in 4x4 matrices whose columns are rows of C. DEPTH steps along K at a time lie in workgroup memory, in cells of four
// lines, a line being a row of op(A) or a column of op(B). An invocation loads a block of four lines by four steps of one operand, or of
// BOTH, while the tile before is being multiplied, and turns it on its way into workgroup memory where memory runs along K.
// Addresses: the cells that an invocation reads for four steps are constants away from two places, which GPUs add for nothing.
// Banks: cells are permuted (XOR with the group of steps), so that neither the stores of turned blocks nor the reads
// of eight neighbours meet in a bank; 32 invocations read 8 different cells of A and 16 of B for each step.
// Cost, at 128 x 128 x 16 (256 invocations): 2 M N K FLOPs. Device memory or cache: 16 KiB for 524,288 FLOPs, 32 FLOPs per
// byte (64 with halves). Workgroup memory: 64 bytes for 128 FLOPs, which a processor with 128 lanes and 128 bytes a clock just feeds;
// 2 barriers for 1,024 multiply-adds of an invocation. 16 KiB, about 128 registers. NVIDIA's assembler makes 286 to 294 instructions for
// 256 multiply-adds and 110 to 170 around four times that. Predicted share of such a GPU's peak: 60 to 75 %; not measured.

override TRANS_A: bool = false; override TRANS_B: bool = false;
override ROW_LANES: u32 = 16u; override COLUMN_LANES: u32 = 16u;  // invocations along rows and columns of C, multiples of 8
override DEPTH: u32 = 16u;       // 8 or 16
override WORKGROUP: u32 = 256u;  // ROW_LANES COLUMN_LANES
// Blocks of both tiles: together at most one for each invocation, or one of each operand for each.
override BLOCKS_A: u32 = ROW_LANES * DEPTH / 2u; override BLOCKS_B: u32 = COLUMN_LANES * DEPTH / 2u;
override BOTH: bool = BLOCKS_A == WORKGROUP && BLOCKS_B == WORKGROUP;
override FIRST_B: u32 = 4u * BLOCKS_A; override CELLS: u32 = FIRST_B + 4u * BLOCKS_B;

@group(0) @binding(0) var<storage, read> a: array<Stored4>;
@group(0) @binding(1) var<storage, read> b: array<Stored4>;
@group(0) @binding(2) var<storage, read_write> c: array<Output4>;
// Of A, then of B: [8 invocations, 4 steps][which of an invocation's two groups of lines][step][invocation].
var<workgroup> tiles: array<array<array<array<vec4<f32>, 8>, 4>, 2>, CELLS / 64u>;

// Block `i` of a tile: (group of four lines, group of four steps). Neighbours follow memory.
fn block(i: u32, lanes: u32, along_k: bool) -> vec2<u32> {
    return select(vec2(i % (2u * lanes), i / (2u * lanes)), vec2(i / (DEPTH / 4u), i % (DEPTH / 4u)), along_k);
}

// As it is stored: its lines, or its steps.
struct Block { x: Stored4, y: Stored4, z: Stored4, w: Stored4 }

fn steps(along_k: bool, s: Block) -> mat4x4<f32> {
    let x = mat4x4(unpack4(s.x), unpack4(s.y), unpack4(s.z), unpack4(s.w));
    if (along_k) { return transpose(x); }
    return x;
}
// Of A those past K are zero, so B's count for nothing. Along K rows are padded with zeros, and no cell behind the last is used.
fn steps_a(x: Block, k: u32) -> mat4x4<f32> {
    let s = steps(!TRANS_A, x);
    if (!TRANS_A) { return s; }
    let z = vec4<f32>(); let live = vec4(k) + FOUR < vec4(p.inner);
    return mat4x4(select(z, s[0], live.x), select(z, s[1], live.y), select(z, s[2], live.z), select(z, s[3], live.w));
}

// Block `at` of A or B, k steps on.
fn load_a(at: vec2<u32>, begin: vec4<u32>, row: u32, base: u32, k: u32) -> Block {
    var i = cells(!TRANS_A, begin, k + 4u * at.y, p.a_row);
    if (PATCHES == OF_A) { i = patch_cells(!TRANS_A, row + 4u * at.x, p.rows, k + 4u * at.y, base); }
    return Block(a[i.x], a[i.y], a[i.z], a[i.w]);
}
fn load_b(at: vec2<u32>, begin: vec4<u32>, column: u32, base: u32, k: u32) -> Block {
    var i = cells(TRANS_B, begin, k + 4u * at.y, p.b_row);
    if (PATCHES == OF_B) { i = patch_cells(TRANS_B, column + 4u * at.x, p.width, k + 4u * at.y, base); }
    return Block(b[i.x], b[i.y], b[i.z], b[i.w]);
}

// Where the cells of the four steps of `group` are permuted to.
fn permuted(lane: u32, group: u32) -> u32 { return lane % 8u ^ (group * (32u / DEPTH)); }
fn part(first: u32, lane: u32, group: u32) -> u32 { return first / 64u + lane / 8u * (DEPTH / 4u) + group; }
fn stage(first: u32, lanes: u32, at: vec2<u32>, s: mat4x4<f32>) {
    let lane = at.x % lanes; let i = part(first, lane, at.y); let h = at.x / lanes; let to = permuted(lane, at.y);
    tiles[i][h][0][to] = s[0]; tiles[i][h][1][to] = s[1]; tiles[i][h][2][to] = s[2]; tiles[i][h][3][to] = s[3];
}

// Rows of op(A), A stored transposed: invocations lid, lid + 2 ROW_LANES, ... have loaded one cell of four of them.
fn store_row_sums(lid: u32, batch: u32, cell: u32, sum: vec4<f32>) {
    workgroupBarrier();
    if (lid < BLOCKS_A) { tiles[lid / 16u][lid / 8u % 2u][0][lid % 8u] = sum; }
    workgroupBarrier();
    if (lid >= 2u * ROW_LANES || 4u * cell >= p.rows) { return; }
    var total = sum;
    for (var i = lid + 2u * ROW_LANES; i < BLOCKS_A; i += 2u * ROW_LANES) { total += tiles[i / 16u][i / 8u % 2u][0][i % 8u]; }
    put_row_sums(batch * ((p.rows + 3u) / 4u) + cell, total);
}

// Four rows of C grow by four values of A times four of B.
fn add(sum: mat4x4<f32>, x: vec4<f32>, y: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(sum[0] + x.x * y, sum[1] + x.y * y, sum[2] + x.z * y, sum[3] + x.w * y);
}

// Four rows. What the epilogue reads is loaded for all of them, past the last row for that one, before the first is stored.
fn store(batch: u32, row: u32, cell: u32, sum: mat4x4<f32>) {
    if (4u * cell >= p.width) { return; }
    let y = vec4(row) + FOUR; let bias_cell = batch * p.bias_batch + bias_place(cell);
    let at = place(PATCHES == OF_C, batch * p.c_batch, min(y, vec4(p.rows - 1u)), vec4(cell), p.c_row);
    // The padding of a row stays zero whatever stood in for the missing columns of B.
    let z = vec4<f32>(); let live = vec4(4u * cell) + FOUR < vec4(p.width);
    let x0 = finish(at.x, bias_cell, select(z, sum[0], live)); let x1 = finish(at.y, bias_cell, select(z, sum[1], live));
    let x2 = finish(at.z, bias_cell, select(z, sum[2], live)); let x3 = finish(at.w, bias_cell, select(z, sum[3], live));
    if (y.x < p.rows) { c[at.x] = pack_output4(keep(at.x, x0)); } if (y.y < p.rows) { c[at.y] = pack_output4(keep(at.y, x1)); }
    if (y.z < p.rows) { c[at.z] = pack_output4(keep(at.z, x2)); } if (y.w < p.rows) { c[at.w] = pack_output4(keep(at.w, x3)); }
}

@compute @workgroup_size(WORKGROUP)
fn main(@builtin(workgroup_id) wid: vec3<u32>, @builtin(num_workgroups) count: vec3<u32>,
        @builtin(local_invocation_index) lid: u32) {
    let group = wid.x + wid.y * count.x;  // group_index, in place: what follows must be seen to be uniform
    let batch = group / (p.row_tiles * p.column_tiles);
    if (batch >= p.batches) { return; }
    // Row tiles run fastest: neighbours share a panel of B.
    let row = group % p.row_tiles * (8u * ROW_LANES); let column = group / p.row_tiles % p.column_tiles * (8u * COLUMN_LANES);
    let base = batch * vec2(p.a_batch, p.b_batch);
    let of_b = select(lid - BLOCKS_A, lid, BOTH);  // which block of B is this invocation's
    let at_a = block(lid, ROW_LANES, !TRANS_A); let at_b = block(of_b, COLUMN_LANES, TRANS_B);
    let begin_a = beginnings(!TRANS_A, row + 4u * at_a.x, p.rows, base.x, p.a_row);
    let begin_b = beginnings(TRANS_B, column + 4u * at_b.x, p.width, base.y, p.b_row);
    let of_a = lid < BLOCKS_A; let at = select(at_b, at_a, of_a); let begin = select(begin_b, begin_a, of_a);
    // 32 neighbours form a patch of 4 x 8 invocations.
    let y = lid / 8u % 4u + lid / (4u * COLUMN_LANES) * 4u;
    let x = lid % 8u + lid / 32u % (COLUMN_LANES / 8u) * 8u;
    var c00 = mat4x4<f32>(); var c01 = mat4x4<f32>(); var c10 = mat4x4<f32>(); var c11 = mat4x4<f32>(); var sums = vec4<f32>();
    var next = Block(); var second = Block();  // the block of A or of B; of BOTH that of A, and that of B
    if (of_a) { next = load_a(at, begin, row, base.x, 0u); }
    else if (of_b < BLOCKS_B) { next = load_b(at, begin, column, base.y, 0u); }
    if (BOTH) { second = load_b(at_b, begin_b, column, base.y, 0u); }
    for (var k = DEPTH; k < p.inner + DEPTH; k += DEPTH) {
        workgroupBarrier();
        if (of_a) {
            let s = steps_a(next, k - DEPTH + 4u * at.y);
            if (ROW_SUMS && column == 0u) { sums += s[0] + s[1] + s[2] + s[3]; }
            stage(0u, ROW_LANES, at, s);
        } else if (of_b < BLOCKS_B) { stage(FIRST_B, COLUMN_LANES, at, steps(TRANS_B, next)); }
        if (BOTH) { stage(FIRST_B, COLUMN_LANES, at_b, steps(TRANS_B, second)); }
        workgroupBarrier();
        if (of_a) { next = load_a(at, begin, row, base.x, k); }  // behind the last tile once more what is there
        else if (of_b < BLOCKS_B) { next = load_b(at, begin, column, base.y, k); }
        if (BOTH) { second = load_b(at_b, begin_b, column, base.y, k); }
        let groups = (min(DEPTH, p.inner + DEPTH - k) + 3u) / 4u;  // up to the last cell along K; behind it others are repeated
        for (var n = 0u; n < groups; n += 1u) {
            let g = n % (DEPTH / 4u);  // it is n; that it is small tells compilers that no sum of indices wraps
            let i = part(0u, y, g); let j = part(FIRST_B, x, g); let v = permuted(y, g); let w = permuted(x, g);
            for (var s = 0u; s < 4u; s += 1u) {
                let a0 = tiles[i][0][s][v]; let a1 = tiles[i][1][s][v];
                let b0 = tiles[j][0][s][w]; let b1 = tiles[j][1][s][w];
                c00 = add(c00, a0, b0); c01 = add(c01, a0, b1);
                c10 = add(c10, a1, b0); c11 = add(c11, a1, b1);
            }
        }
    }
    if (ROW_SUMS && column == 0u) { store_row_sums(lid, batch, row / 4u + lid, sums); }
    let y0 = row + 4u * y; let y1 = y0 + 4u * ROW_LANES; let x0 = column / 4u + x; let x1 = x0 + COLUMN_LANES;
    store(batch, y0, x0, c00); store(batch, y0, x1, c01);
    store(batch, y1, x0, c10); store(batch, y1, x1, c11);
}
