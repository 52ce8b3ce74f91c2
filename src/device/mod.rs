//! The device layer: adapter choice, memory pool, kernels and their launches, recording and submission.
//!
//! A launch ([`Launch`]) names a [`Kernel`], views of memory, parameters and a grid. Three executors take it: the GPU, the
//! CPU twin of the kernel, and a dry run that only counts.

mod adapter;
mod capabilities;
mod choices;
mod context;
mod counters;
mod hash;
mod hooks;
mod idle;
mod kernel;
mod launch;
mod memory;
pub mod philox;
mod pipeline_cache;
mod pipelines;
mod pool;
mod prepare;
mod profile;
mod readback;
mod recorder;
mod replay;
mod ring;
mod source;
mod staging;
mod subgroup;
mod timing;
mod transfer;
mod translate;
mod tuning;
mod twin;
mod view;

pub use adapter::{ContextOptions, adapters};
pub use capabilities::Capabilities;
pub use choices::{Lanes, Matrix};
pub use context::Context;
pub use counters::Counters;
pub(crate) use hash::fnv1a;
pub use hooks::Launched;
pub(crate) use hooks::{Fitted, Substitute};
pub use kernel::{Binding, Element, EpilogueKind, Kernel, Part, Storage};
pub use launch::{Epilogue, Launch};
pub use pool::PoolStats;
pub use prepare::{PipelineList, Preparation, Translated};
pub use profile::{KernelTime, LaunchTime, by_kernel};
pub use readback::Pending;
pub use replay::Recording;
pub use ring::{Arriving, Ring};
pub use source::{Source, Variant};
pub(crate) use staging::Staged;
pub use timing::Timing;
pub(crate) use timing::between;
pub(crate) use translate::parse;
pub(crate) use translate::resolve;
pub use translate::{Language, Translation, specialise, translate, validate};
pub use tuning::Tuning;
pub use twin::Twin;
pub use view::View;

use crate::shape::DType;

/// Raw memory of f32 values; halves saturate.
pub(crate) fn encode(values: &[f32], dtype: DType) -> Vec<u8> {
    twin::encode(values, dtype, true)
}

/// f32 values of raw memory.
pub(crate) fn decode(bytes: &[u8], dtype: DType) -> Vec<f32> {
    twin::decode(bytes, dtype)
}
