// Blocks of four lines by four steps along K, in which the kernels for GPUs copy a product's operands to workgroup memory. A line is a
// row of op(A) or a column of op(B). Memory runs along K, and the cells of a block are its lines, or across, and they are its steps.
// Of one operand steps past K are made zero; then what stands for those of the other makes no difference.
const FOUR = vec4(0u, 1u, 2u, 3u);

// The four cells of a block in memory. What lies outside repeats something inside.
fn cells(owner: u32, along_k: bool, line: u32, lines: u32, k: u32, base: u32, stride: u32) -> vec4<u32> {
    let patches = PATCHES == owner;
    let along = place(patches, base, min(vec4(line) + FOUR, vec4(lines - 1u)), vec4(min(k, p.inner - 1u) / 4u), stride);
    let across = place(patches, base, min(vec4(k) + FOUR, vec4(p.inner - 1u)), vec4(min(line, lines - 1u) / 4u), stride);
    return select(across, along, along_k);
}
