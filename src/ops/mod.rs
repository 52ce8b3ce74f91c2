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
