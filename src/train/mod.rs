//! The training loop, checkpoints and the run directory.

pub mod config;

pub mod resolve;
