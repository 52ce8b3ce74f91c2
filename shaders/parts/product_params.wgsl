// Parameters of the kernels of a product. Strides are in cells.

struct Params {
    rows: u32,
    width: u32,
    inner: u32,
    row_tiles: u32,
    column_tiles: u32,
    batches: u32,
    a_row: u32,
    a_batch: u32,
    b_row: u32,
    b_batch: u32,
    c_row: u32,
    c_batch: u32,
    bias_batch: u32,
}
