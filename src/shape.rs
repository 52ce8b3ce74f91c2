//! Shapes and element types. The last axis of every tensor is padded with zeros to a multiple of four, so that each row
//! starts at a cell of four neighbours: kernels load and store whole `vec4`s and never straddle two rows.

use std::fmt;

use crate::error::{Error, Result};

/// How an element lies in memory. Arithmetic is always f32.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DType {
    /// 32-bit float.
    F32,
    /// 16-bit float, storage only.
    F16,
    /// 32-bit unsigned integer: token ids, random state.
    U32,
}

impl DType {
    /// Bytes of one element.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        match self {
            Self::F32 | Self::U32 => 4,
            Self::F16 => 2,
        }
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::U32 => "u32",
        })
    }
}

/// Up to four axes, row-major, the last one fastest.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Shape {
    dims: [usize; 4],
    rank: usize,
}

impl Shape {
    /// A shape of 0 to 4 axes, none of them zero.
    ///
    /// # Errors
    /// `Error::Shape` for more than four axes or an axis of length zero.
    pub fn new(dims: &[usize]) -> Result<Self> {
        if dims.len() > 4 || dims.contains(&0) {
            return Err(Error::shape("tensor", "1 to 4 axes of at least one element", format!("{dims:?}")));
        }
        let mut all = [1; 4];
        all[..dims.len()].copy_from_slice(dims);
        Ok(Self { dims: all, rank: dims.len() })
    }

    /// The axes.
    #[must_use]
    pub fn dims(&self) -> &[usize] {
        &self.dims[..self.rank]
    }

    /// Number of axes.
    #[must_use]
    pub const fn rank(&self) -> usize {
        self.rank
    }

    /// Length of the last axis; 1 for a scalar.
    #[must_use]
    pub fn last(&self) -> usize {
        self.dims().last().copied().unwrap_or(1)
    }

    /// Product of all axes but the last; 1 for a scalar and for one axis.
    #[must_use]
    pub fn rows(&self) -> usize {
        self.elements() / self.last()
    }

    /// Cells of four elements in one row.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.last().div_ceil(4)
    }

    /// Elements from one row to the next: the last axis rounded up to a multiple of four.
    #[must_use]
    pub fn stride(&self) -> usize {
        4 * self.cells()
    }

    /// Elements without padding.
    #[must_use]
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    /// Elements in memory, padding included.
    #[must_use]
    pub fn stored(&self) -> usize {
        self.rows() * self.stride()
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.dims())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_padded_to_cells() {
        for (dims, rows, last, stored) in [
            (&[][..], 1, 1, 4),
            (&[5], 1, 5, 8),
            (&[3, 4], 3, 4, 12),
            (&[2, 3, 7], 6, 7, 48),
            (&[2, 3, 5, 1], 30, 1, 120),
        ] {
            let shape = Shape::new(dims).unwrap();
            assert_eq!((shape.rows(), shape.last(), shape.stored()), (rows, last, stored), "{dims:?}");
        }
        assert!(Shape::new(&[1, 2, 3, 4, 5]).is_err());
        assert!(Shape::new(&[2, 0]).is_err());
    }
}
