//! The training loop, checkpoints and the run directory.

pub mod checkpoint;
pub mod config;
pub mod files;
pub mod metrics;
pub mod resolve;
pub mod run_dir;
pub mod tensorboard;
