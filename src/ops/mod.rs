//! Differentiable operations: one module per operation, with its forward launch and its derivative.
pub mod checkpoint;

pub mod add;
pub mod affine;
#[cfg(test)]
pub(crate) mod check;
pub mod concat;
pub mod dropout;
pub mod gather_tokens;
pub mod gelu;

#[cfg(test)]
pub(crate) mod check;
pub mod cross_entropy;
pub mod embedding;
pub mod exp_scale;
pub mod infonce;
pub mod l2_normalise;
pub mod layernorm;
pub mod masked_mean;
pub mod masked_mse;
pub mod softmax;
pub mod weighted_sum;
