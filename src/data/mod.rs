//! Images with captions, from a path to batches of numbers in host memory.
//!
//! ```text
//! path -> Dataset (folder.rs, webdataset.rs, coco.rs) -> Record (sample.rs)
//!      -> pixels (decode.rs, augment.rs) and token ids (tokenizer.rs)
//!      -> Batch (collate.rs), in an order fixed by the seed (order.rs), made ahead by threads (loader.rs)
//! ```
//! Everything drawn at random (the order, the caption of several, the augmentation) is a pure function of the seed, the
//! epoch and the sample, so batch `k` of a run never depends on what was read before it.

pub mod augment;
mod coco;
pub mod collate;
mod dataset;
pub mod decode;
mod folder;
pub mod loader;
pub mod order;
pub mod sample;
pub mod tokenizer;
mod webdataset;

#[cfg(test)]
mod fixtures;

pub use augment::Augment;
pub use collate::{Collator, batch_from};
pub use dataset::Dataset;
pub use loader::{Loader, LoaderOptions};
pub use order::Order;
pub use sample::{Batch, Blob, Record};
pub use tokenizer::Tokenizer;
