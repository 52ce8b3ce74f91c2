//! Differentiable operations: one module per operation, with its forward launch and its derivative.

pub mod add;
pub mod add_rows;
pub mod affine;
pub mod attention;
#[cfg(test)]
pub(crate) mod check;
pub mod checkpoint;
pub mod concat;
pub mod conv2d;
pub mod cross_entropy;
pub mod dense;
pub mod dropout;
pub mod embedding;
pub mod exp_scale;
pub mod gather_tokens;
pub mod gelu;
pub mod infonce;
pub mod l2_normalise;
pub mod layernorm;
pub mod linear;
pub mod masked_mean;
pub mod masked_mse;
pub mod matmul;
pub mod patch_conv;
pub mod patch_conv_transposed;
pub mod replace_rows;
pub mod scale_shift;
pub mod softmax;
pub mod weighted_sum;
