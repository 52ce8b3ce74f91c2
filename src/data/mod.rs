//! Batches, readers, tokenizer, augmentation.
