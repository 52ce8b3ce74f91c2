//! The training loop, checkpoints and the run directory.

pub mod checkpoint;
pub mod config;
pub mod files;
pub mod resolve;
