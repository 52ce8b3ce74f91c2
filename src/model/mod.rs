//! The multimodal autoencoder: its configuration and presets.

pub mod config;
pub mod fields;
pub mod generate;
pub mod inputs;
pub mod m2ae;
mod objectives;
pub mod params;
