//! Where the mask value or the id of a row lies: a tensor (B, N) pads every group of N values to whole cells, so the
//! value of row r is not at r but at `(r / N) * stride + r % N`.

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// Length of a group and of its padded row, in elements.
#[derive(Clone, Copy)]
pub(crate) struct Groups {
    pub group: u32,
    pub stride: u32,
}

impl Groups {
    /// For a kernel whose mask is absent: never divides by zero, never used.
    pub const NONE: Self = Self { group: 1, stride: 4 };

    /// The index of row `r` in memory, for the twins.
    pub fn at(self, row: usize) -> usize {
        let group = self.group as usize;
        row / group * self.stride as usize + row % group
    }
}

/// How `values`, one per row, lie in memory. Fails when there are not `rows` of them.
pub(crate) fn groups(operation: &'static str, what: &str, values: &Tensor, rows: usize) -> Result<Groups> {
    let shape = values.shape();
    if shape.elements() != rows || rows == 0 {
        return Err(Error::shape(operation, format!("{what} of {rows} values, one per row"), shape));
    }
    Ok(Groups { group: shape.last() as u32, stride: shape.stride() as u32 })
}

/// The tensor to bind where an optional one is absent: the kernel's flag keeps it from being read.
pub(crate) fn unread(like: &Tensor) -> Result<Tensor> {
    Tensor::empty(like.context(), &[1], like.dtype())
}
