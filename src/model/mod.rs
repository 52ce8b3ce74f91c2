//! The multimodal autoencoder: its configuration and presets.

pub mod config;
pub mod fields;
