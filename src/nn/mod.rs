//! Parameters: what they are called, how they begin, and where they lie in device memory.

mod arena;
#[cfg(test)]
mod arena_tests;
mod init;
mod layers;
mod layout;
mod param;

pub use arena::{Arena, Entry, ParamSet, State, Stretch};
pub use init::Init;
pub use layers::{Block, LayerNorm, Linear, Stack};
pub use layout::{ParamSpec, Place, Section};
pub use param::Param;
