// No sums of rows: parts/epilogue_row_sums.wgsl stands here where they are asked for.
const ROW_SUMS = false;
fn put_row_sums(cell: u32, sum: vec4<f32>) {}
