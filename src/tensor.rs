//! Tensors: a shape over a window of device memory.

use std::ops::Deref;

use crate::device::{Context, View};
use crate::error::{Error, Result};
use crate::shape::{DType, Shape};

/// A contiguous array on the device, rank 0 to 4; rows padded to whole cells of four (see [`Shape`]). Clones share memory;
/// the last one returns it to the pool.
#[derive(Clone)]
pub struct Tensor {
    context: Context,
    view: View,
    shape: Shape,
}

/// A tensor is bound by its view.
impl Deref for Tensor {
    type Target = View;
    fn deref(&self) -> &View {
        &self.view
    }
}

impl Tensor {
    /// A tensor with arbitrary contents, padding included: for kernels that write all of it.
    ///
    /// # Errors
    /// `Error::Shape`, or what the allocation reports (`Error::Limit`, `Error::OutOfMemory`).
    pub fn empty(context: &Context, dims: &[usize], dtype: DType) -> Result<Self> {
        let shape = Shape::new(dims)?;
        let view = context.allocate(shape.stored() as u64 * dtype.bytes(), dtype)?;
        Ok(Self { context: context.clone(), view, shape })
    }

    /// A tensor of zeros.
    ///
    /// # Errors
    /// As [`Tensor::empty`].
    pub fn zeros(context: &Context, dims: &[usize], dtype: DType) -> Result<Self> {
        let tensor = Self::empty(context, dims, dtype)?;
        tensor.clear()?;
        Ok(tensor)
    }

    /// A float tensor from host values without padding.
    ///
    /// # Errors
    /// `Error::Shape` when the count does not fit, else as [`Tensor::empty`].
    pub fn from_f32(context: &Context, dims: &[usize], values: &[f32], dtype: DType) -> Result<Self> {
        let tensor = Self::empty(context, dims, dtype)?;
        tensor.write_f32(values)?;
        Ok(tensor)
    }

    /// An integer tensor from host values without padding.
    ///
    /// # Errors
    /// As [`Tensor::from_f32`].
    pub fn from_u32(context: &Context, dims: &[usize], values: &[u32]) -> Result<Self> {
        let tensor = Self::empty(context, dims, DType::U32)?;
        tensor.write_u32(values)?;
        Ok(tensor)
    }

    /// Overwrites all values from the host, without padding, in order with the launches around it.
    ///
    /// # Errors
    /// `Error::Shape` when the count or the type does not fit.
    pub fn write_f32(&self, values: &[f32]) -> Result<()> {
        self.write(Staged::floats(&self.context, self.dims(), values, self.dtype(), false)?)
    }

    /// Overwrites all integers from the host, without padding.
    ///
    /// # Errors
    /// As [`Tensor::write_f32`].
    pub fn write_u32(&self, values: &[u32]) -> Result<()> {
        self.write(Staged::integers(&self.context, self.dims(), values)?)
    }

    /// Overwrites all values by what was staged for this shape and type, in order with the launches around it.
    ///
    /// # Errors
    /// `Error::Shape` for another shape or type, `Error::Check` for values that another context staged.
    pub fn write(&self, staged: Staged) -> Result<()> {
        if staged.shape != self.shape || staged.dtype != self.dtype() {
            let got = format!("{} {}", staged.shape, staged.dtype);
            return Err(Error::shape("writing a tensor", format!("{} {}", self.shape, self.dtype()), got));
        }
        self.context.upload(&self.view, staged.bytes)
    }

    /// Reads all values back, without padding; waits for the device.
    ///
    /// # Errors
    /// What the device reports.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        Ok(unpad(&crate::device::decode(&self.context.download(&self.view)?, self.dtype()), &self.shape))
    }

    /// Reads all integers back, without padding; waits for the device.
    ///
    /// # Errors
    /// What the device reports.
    pub fn to_u32(&self) -> Result<Vec<u32>> {
        let all: Vec<u32> = bytemuck::pod_collect_to_vec(&self.context.download(&self.view)?);
        Ok(unpad(&all, &self.shape))
    }

    /// Reads memory as it lies, padding included, decoded to f32: for checks of the padding.
    ///
    /// # Errors
    /// What the device reports.
    pub fn to_f32_padded(&self) -> Result<Vec<f32>> {
        Ok(crate::device::decode(&self.context.download(&self.view)?, self.dtype()))
    }

    /// Reads the raw bytes, padding included.
    ///
    /// # Errors
    /// What the device reports.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        self.context.download(&self.view)
    }

    /// Whether nothing has been written behind the tensor, in a context that poisons memory
    /// ([`ContextOptions::poison`](crate::device::ContextOptions)); waits for the device.
    ///
    /// # Errors
    /// What the device reports.
    pub fn guard_holds(&self) -> Result<bool> {
        self.context.guard_holds(&self.view)
    }

    /// Fills the tensor with zeros.
    ///
    /// # Errors
    /// `Error::DeviceLost`.
    pub fn clear(&self) -> Result<()> {
        self.context.clear(&self.view)
    }

    /// Copies `from`, of the same shape and type, over this tensor.
    ///
    /// # Errors
    /// `Error::Shape` when they differ.
    pub fn copy_from(&self, from: &Self) -> Result<()> {
        if from.shape != self.shape || from.dtype() != self.dtype() {
            return Err(Error::shape("copy", self.shape, from.shape));
        }
        self.context.copy(&from.view, &self.view)
    }

    /// The same memory under another shape with the same rows in memory: the last axis keeps its length (or both are
    /// multiples of four).
    ///
    /// # Errors
    /// `Error::Shape` otherwise.
    pub fn reshape(&self, dims: &[usize]) -> Result<Self> {
        let shape = Shape::new(dims)?;
        let same_rows = shape.last() == self.shape.last()
            || (shape.last().is_multiple_of(4) && self.shape.last().is_multiple_of(4));
        if shape.elements() != self.shape.elements() || !same_rows {
            return Err(Error::shape("reshape", self.shape, shape));
        }
        Ok(Self { context: self.context.clone(), view: self.view.clone(), shape })
    }

    /// A tensor inside this one's memory, `offset` elements (a multiple of 64) from its start.
    ///
    /// # Errors
    /// `Error::Shape` when it does not lie inside.
    pub fn window(&self, offset: usize, dims: &[usize]) -> Result<Self> {
        let shape = Shape::new(dims)?;
        if !offset.is_multiple_of(64) || offset + shape.stored() > self.shape.stored() {
            return Err(Error::shape("window", format!("inside {} elements", self.shape.stored()), offset));
        }
        let size = self.dtype().bytes();
        let view = self.view.narrow(offset as u64 * size, shape.stored() as u64 * size, self.dtype());
        Ok(Self { context: self.context.clone(), view, shape })
    }

    /// Shape.
    #[must_use]
    pub const fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Axes.
    #[must_use]
    pub fn dims(&self) -> &[usize] {
        self.shape.dims()
    }

    /// The context that owns the memory.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor({} {})", self.shape, self.dtype())
    }
}

/// Host values on their way into a tensor of a shape and type: encoded, padded, and where the device reads them. Made on any
/// thread, so that a training loop has nothing left to do but to hand them over ([`Tensor::write`]).
pub struct Staged {
    bytes: crate::device::Staged,
    shape: Shape,
    dtype: DType,
}

impl Staged {
    /// Values without padding, for a tensor of floats, in memory that is used again: for what is uploaded time after time.
    ///
    /// # Errors
    /// `Error::Shape` when the count or the type does not fit, `Error::DeviceLost`.
    pub fn f32(context: &Context, dims: &[usize], values: &[f32], dtype: DType) -> Result<Self> {
        Self::floats(context, dims, values, dtype, true)
    }

    fn floats(context: &Context, dims: &[usize], values: &[f32], dtype: DType, again: bool) -> Result<Self> {
        let shape = Shape::new(dims)?;
        if dtype == DType::U32 || values.len() != shape.elements() {
            return Err(Error::shape("staging values", format!("{shape} {dtype}"), values.len()));
        }
        Self::of(context, shape, dtype, again, values, |rows| crate::device::encode(rows, dtype))
    }

    /// Integers without padding.
    fn integers(context: &Context, dims: &[usize], values: &[u32]) -> Result<Self> {
        let shape = Shape::new(dims)?;
        if values.len() != shape.elements() {
            return Err(Error::shape("staging integers", shape, values.len()));
        }
        Self::of(context, shape, DType::U32, false, values, |rows| bytemuck::cast_slice(rows).to_vec())
    }

    /// A few rows at a time, so that what lies between the steps stays in the cache.
    fn of<T: Copy + Default>(
        context: &Context,
        shape: Shape,
        dtype: DType,
        again: bool,
        values: &[T],
        encode: impl Fn(&[T]) -> Vec<u8>,
    ) -> Result<Self> {
        const PIECE: usize = 4096;
        let (width, stride) = (shape.last().max(1), shape.stride());
        let piece = (PIECE / width).max(1) * width;
        let bytes = context.stage(shape.stored() as u64 * dtype.bytes(), again, |to| {
            for rows in values.chunks(piece) {
                if width == stride {
                    to.put(&encode(rows));
                } else {
                    to.put(&encode(&pad(rows, width, stride)));
                }
            }
        })?;
        Ok(Self { bytes, shape, dtype })
    }
}

impl std::fmt::Debug for Staged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Staged({} {})", self.shape, self.dtype)
    }
}

/// Rows with zeros behind them.
fn pad<T: Copy + Default>(values: &[T], width: usize, stride: usize) -> Vec<T> {
    let mut all = vec![T::default(); values.len() / width * stride];
    for (to, from) in all.chunks_mut(stride).zip(values.chunks(width)) {
        to[..width].copy_from_slice(from);
    }
    all
}

/// Rows without their padding.
fn unpad<T: Copy>(all: &[T], shape: &Shape) -> Vec<T> {
    all.chunks(shape.stride()).flat_map(|row| &row[..shape.last().min(row.len())]).copied().collect()
}
