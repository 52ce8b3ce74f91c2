// Blocks of four lines by four steps along K, in which the kernels for GPUs copy a product's operands to workgroup memory. A line is a
// row of op(A) or a column of op(B). Memory runs along K, and the cells of a block are its lines, or across, and they are its steps.
// What lies outside repeats something inside, and the kernel sees to it that no step past K counts: it stops behind the last cell
// along K, whose padding is zero, or puts down zeros; where A does not run along K, zeros for its steps past K.
const FOUR = vec4(0u, 1u, 2u, 3u);

// Where the four lines of a block begin, or where all its steps would at k = 0: what does not change on the way along K.
fn beginnings(along_k: bool, line: u32, lines: u32, base: u32, stride: u32) -> vec4<u32> {
    return base + select(vec4(min(line, lines - 1u) / 4u), min(vec4(line) + FOUR, vec4(lines - 1u)) * stride, along_k);
}

// The four cells of a block at step k.
fn cells(along_k: bool, begin: vec4<u32>, k: u32, stride: u32) -> vec4<u32> {
    return begin + select(min(vec4(k) + FOUR, vec4(p.inner - 1u)) * stride, vec4(min(k, p.inner - 1u) / 4u), along_k);
}

// The same of an operand whose rows are patches of images.
fn patch_cells(along_k: bool, line: u32, lines: u32, k: u32, base: u32) -> vec4<u32> {
    if (along_k) { return place(true, base, min(vec4(line) + FOUR, vec4(lines - 1u)), vec4(min(k, p.inner - 1u) / 4u), 0u); }
    return place(true, base, min(vec4(k) + FOUR, vec4(p.inner - 1u)), vec4(min(line, lines - 1u) / 4u), 0u);
}
