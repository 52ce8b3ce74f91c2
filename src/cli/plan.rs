//! `mmae plan`: what training will take, before anything is allocated.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{Common, open_device, print, print_json};
use crate::data::{Dataset, Tokenizer};
use crate::error::Result;
use crate::train::budget::fit;
use crate::train::config::RunConfig;
use crate::train::files::read_text;
use crate::train::plan::plan;
use crate::train::resolve::{Sources, environment};

/// Predict memory, operations and launches of a training step, and whether the device can hold it
#[derive(clap::Args)]
pub struct Args {
    /// Model preset: m2ae, m2ae-small, m2ae-tiny, m2ae-vit
    #[arg(long, value_name = "PRESET")]
    model: Option<String>,
    /// A TOML file of settings, as `mmae train` takes
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Most memory of a step, for example 2GiB: plans what `mmae train --memory-budget` would choose
    #[arg(long, value_name = "BYTES")]
    memory_budget: Option<String>,
    /// One setting, for example train.batch=8 or train.precision=f16; may be repeated
    #[arg(long, value_name = "SECTION.FIELD=VALUE")]
    set: Vec<String>,
    /// A data set: its vocabulary replaces the preset's, and steps per epoch are counted
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
}

pub fn run(args: &Args, common: &Common) -> Result<()> {
    let text = args.config.as_deref().map(read_text).transpose()?;
    let mut config = RunConfig::resolve(&Sources {
        file: args.config.as_deref().zip(text.as_deref()),
        environment: &environment(),
        set: &args.set,
        preset: args.model.as_deref(),
        steps: None,
    })?;
    if let Some(budget) = &args.memory_budget {
        config.set("train.memory_budget", budget)?;
        config.validate()?;
    }
    let samples = args.data.as_deref().map(|path| vocabulary(&mut config, path)).transpose()?;
    let device = open_device(common)?;
    let chosen = fit(&mut config, device.capabilities())?;
    let plan = plan(&config, Some(device.capabilities().clone()))?;
    let steps = samples.map(|samples| (samples as u64).div_ceil(plan.samples));
    if common.json {
        let mut report = plan.to_json();
        report["device"] = device.capabilities().adapter.clone().into();
        report["memory_budget"] = json!(config.train.memory_budget);
        report["batch"] = config.train.batch.into();
        report["micro_batches"] = config.train.micro_batches.into();
        report["checkpoint_blocks"] = config.train.checkpoint_blocks.into();
        report["chosen"] = json!(chosen);
        report["samples"] = json!(samples);
        report["steps_per_epoch"] = json!(steps);
        print_json(&report)?;
    } else {
        if let (Some(samples), Some(steps)) = (samples, steps) {
            print(format_args!("data             {samples} samples, {steps} steps an epoch"))?;
        }
        if let Some(chosen) = chosen {
            print(chosen)?;
        }
        print(plan.to_text())?;
    }
    plan.refused().map_or(Ok(()), Err)
}

/// Gives the model the vocabulary that training on `path` would give it. Returns the number of samples.
fn vocabulary(config: &mut RunConfig, path: &Path) -> Result<usize> {
    let dataset = Dataset::open(path)?;
    let tokenizer = match &config.data.tokenizer {
        Some(file) => Tokenizer::from_file(file)?,
        None => Tokenizer::train(&dataset.captions(), config.model.vocab)?,
    };
    config.model.vocab = tokenizer.vocab();
    Ok(dataset.len())
}
