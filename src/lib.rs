//! `mmae`: train and run a multimodal autoencoder on any GPU, with hand-written WGSL kernels and no CUDA.
//!
//! Layers, each using only those before it:
//! `error, shape < device < kernels < tensor < tape < ops < nn, optim < model < data, train, eval < cli`.

#[cfg(feature = "data")]
pub mod data;
pub mod error;
#[cfg(feature = "data")]
pub mod eval;
pub mod model;
#[cfg(feature = "data")]
pub mod train;

pub use error::{Error, Result};
