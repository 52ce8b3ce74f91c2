// Epilogue of the gradient of a weight, dW = dY^T X: y = value, and beside it the sums over K of the rows of op(A) = dY^T, which
// are the gradient of the bias. The kernel adds them up from what it loads of A for the product anyway, in the workgroups of the
// first columns, and calls put_row_sums for each cell of four rows; those of a batch lie one behind the other.
@group(1) @binding(0) var<storage, read_write> row_sums: array<Floats>;

// Both are added to what stands in their places: the gradient of a layer that is used more than once.
override ADDED: bool = false;
const ROW_SUMS = true;

fn finish(cell: u32, bias_cell: u32, value: vec4<f32>) -> vec4<f32> {
    if (ADDED) { return value + unpack_output4(c[cell]); }
    return value;
}

fn keep(cell: u32, value: vec4<f32>) -> vec4<f32> { return value; }

fn put_row_sums(cell: u32, sum: vec4<f32>) {
    var total = sum;
    if (ADDED) { total += floats(row_sums[cell]); }
    row_sums[cell] = cell_of_floats(total);
}
