//! Deterministic inputs for cases and benchmarks: random, never zeros.

use crate::device::Context;
use crate::device::philox::{normal4, philox, uniform4};
use crate::error::Result;
use crate::shape::{DType, Shape};
use crate::tensor::Tensor;

fn draw<T: Copy>(count: usize, seed: u64, make: impl Fn([u32; 4]) -> [T; 4]) -> Vec<T> {
    let key = [seed as u32, (seed >> 32) as u32];
    let blocks = (0..count.div_ceil(4) as u32).flat_map(|i| make(philox([i, 0, 0, 0x5a], key)));
    blocks.take(count).collect()
}

/// Standard normal values.
///
/// # Errors
/// As [`Tensor::from_f32`].
pub fn normal(ctx: &Context, dims: &[usize], dtype: DType, seed: u64) -> Result<Tensor> {
    let values = draw(Shape::new(dims)?.elements(), seed, normal4);
    Tensor::from_f32(ctx, dims, &values, dtype)
}

/// Uniform values in [0, 1).
///
/// # Errors
/// As [`Tensor::from_f32`].
pub fn uniform(ctx: &Context, dims: &[usize], dtype: DType, seed: u64) -> Result<Tensor> {
    let values = draw(Shape::new(dims)?.elements(), seed, uniform4);
    Tensor::from_f32(ctx, dims, &values, dtype)
}

/// Integers below `limit`.
///
/// # Errors
/// As [`Tensor::from_u32`].
pub fn ids(ctx: &Context, dims: &[usize], limit: u32, seed: u64) -> Result<Tensor> {
    let values = draw(Shape::new(dims)?.elements(), seed, |bits| bits.map(|b| b % limit));
    Tensor::from_u32(ctx, dims, &values)
}

/// Zeros and ones (f32), ones with the given probability.
///
/// # Errors
/// As [`Tensor::from_f32`].
pub fn mask(ctx: &Context, dims: &[usize], probability: f32, seed: u64) -> Result<Tensor> {
    let one = |bits| uniform4(bits).map(|u| if u < probability { 1.0 } else { 0.0 });
    let values = draw(Shape::new(dims)?.elements(), seed, one);
    Tensor::from_f32(ctx, dims, &values, DType::F32)
}
