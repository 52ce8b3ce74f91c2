//! How many lanes share a row, in the kernels that reduce along rows.

use crate::device::Context;

/// Lanes for one row of `cells`: 8, 16, 32 or 64 of the 64 in a workgroup. A GPU gets the fewest with at most four cells each, where
/// 64 are enough for that. A software driver gets the width of its vectors, 8, as soon as the rows themselves keep its
/// cores busy: the fewer workgroups, the fewer barriers, which cost it a microsecond each.
pub(crate) fn lanes(ctx: &Context, rows: usize, cells: usize) -> usize {
    const BUSY: usize = 64;
    let widest = (cells / 4).next_power_of_two().clamp(8, 64);
    if ctx.capabilities().software && rows >= BUSY { 8 } else { widest }
}

/// Whether a row stays in its lanes' registers between two passes: at most four cells each, as in parts/rows.wgsl.
pub(crate) const fn held(cells: usize, lanes: usize) -> bool {
    cells <= 4 * lanes
}

/// Workgroups for all rows and for the up to three rows past the end that write the padding of a result with one value
/// per row.
pub(crate) fn workgroups(rows: usize, lanes: usize) -> usize {
    rows.next_multiple_of(4).div_ceil(64 / lanes)
}
