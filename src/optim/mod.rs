//! The optimiser: one update of all parameters, entirely on the device.

mod adamw;
#[cfg(test)]
mod adamw_tests;
mod averages;

pub use crate::kernels::step_control::Control;
pub use adamw::{AdamW, AdamWConfig, StepInputs};
