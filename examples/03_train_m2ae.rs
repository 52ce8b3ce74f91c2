//! A few steps of the multimodal autoencoder on the bundled pictures and their names, without the command line.
//!
//! What it teaches: a data set becomes batches on worker threads; `Trainer` owns model, optimiser and schedules; one call
//! is one step, and only looking at the losses waits for the device.
//!
//! Run with `cargo run --release --example 03_train_m2ae`.

use std::path::Path;
use std::sync::Arc;

use mmae::data::{Dataset, Loader, LoaderOptions, Tokenizer};
use mmae::device::ContextOptions;
use mmae::model::config::m2ae_tiny;
use mmae::train::config::RunConfig;
use mmae::train::trainer::Trainer;
use mmae::{Context, Error, Result};

const STEPS: u64 = 30;

fn main() -> Result<()> {
    let ctx = Context::new(&ContextOptions::default())?;
    println!("device: {}", ctx.capabilities().summary());

    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/data/emoji/train");
    let dataset = Arc::new(Dataset::open(path)?);
    let tokenizer = Arc::new(Tokenizer::train(&dataset.captions(), 512)?);
    println!("data:   {} pictures with names, {} token ids", dataset.len(), tokenizer.vocab());

    // The smallest preset; every field of the configuration can be changed, here as `--set` would.
    let mut config = RunConfig::new(m2ae_tiny());
    config.model.vocab = tokenizer.vocab();
    config.train.steps = STEPS;
    config.set("train.lr", "3e-3")?;
    let mut trainer = Trainer::new(&ctx, &config)?;
    println!("model:  {} parameters", trainer.model.params.elements());

    let mut loader = Loader::new(
        dataset,
        tokenizer,
        LoaderOptions {
            batch: trainer.samples_per_step(),
            image_size: config.model.image_size,
            text_length: config.model.text_length,
            ..LoaderOptions::default()
        },
    )?;
    let mut first = None;
    for step in 1..=STEPS {
        trainer.step(&loader.next_batch()?)?;
        if step == 1 || step % 10 == 0 {
            let losses = trainer.losses()?;
            let parts: Vec<_> = losses.named().map(|(name, value)| format!("{name} {value:.4}")).into();
            println!("step {step:>3}   {}", parts.join("   "));
            first.get_or_insert(losses.total);
        }
    }
    let (first, last) = (first.unwrap_or(f32::NAN), trainer.losses()?.total);
    if first.is_nan() || last.is_nan() || last > 0.9 * first {
        let detail = format!("the loss went from {first} to {last}");
        return Err(Error::Check { what: "03_train_m2ae".into(), detail });
    }
    Ok(())
}
