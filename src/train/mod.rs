//! The training loop, checkpoints and the run directory.

pub mod budget;
pub mod checkpoint;
pub mod config;
pub mod evaluate;
pub mod files;
pub mod golden;
pub mod grid;
pub mod index;
pub mod load;
pub mod metrics;
pub mod monitor;
pub mod plan;
pub mod plot;
pub mod prepared;
pub mod resolve;
pub mod run;
pub mod run_dir;
pub mod samples;
pub mod tensorboard;
pub mod trainer;
pub mod tuning;
pub mod verify;
pub mod versions;
