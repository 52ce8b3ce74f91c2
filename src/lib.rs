//! `mmae`: train and run a multimodal autoencoder on any GPU, with hand-written WGSL kernels and no CUDA.
//!
//! Layers, each using only those before it:
//! `error, shape < device < tensor < kernels < tape < ops < nn, optim < model < data, train, eval < bench < cli`.

#[cfg(feature = "data")]
pub mod bench;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "data")]
pub mod data;
pub mod device;
pub mod error;
#[cfg(feature = "data")]
pub mod eval;
pub mod kernels;
pub mod model;
pub mod nn;
pub mod ops;
pub mod optim;
pub mod shape;
pub mod tape;
pub mod tensor;
#[cfg(feature = "data")]
pub mod train;

pub use device::Context;
pub use error::{Error, Result};
pub use shape::{DType, Shape};
pub use tensor::Tensor;
pub use wgpu;

/// The programs of the README are compiled and run as tests.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
