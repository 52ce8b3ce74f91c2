//! The optimiser: one update of all parameters, entirely on the device.

mod adamw;
mod averages;
#[cfg(test)]
mod adamw_tests;

pub use crate::kernels::step_control::Control;
pub use adamw::{AdamW, AdamWConfig, StepInputs};
