//! `mmae train`: a new run.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::progress::{Progress, duration};
use super::{Common, interrupt, open_device, print, print_json};
use crate::device::Context;
use crate::error::{Error, Result};
use crate::train::config::RunConfig;
use crate::train::files;
use crate::train::resolve::{Sources, environment};
use crate::train::run::{Run, Summary};
use crate::train::run_dir::{default_name, now};

/// Train a model on images and captions
///
/// Settings come from the preset, then --config, then variables like MMAE_TRAIN__LR, then --set. The run's folder gets
/// the whole configuration, metrics, TensorBoard events, sample pictures, the loss curve and checkpoints.
#[derive(clap::Args)]
pub struct Args {
    /// Images and captions: a folder with captions.csv, *.tar shards or captions.json, or one such file
    #[arg(long, value_name = "PATH")]
    data: Option<PathBuf>,
    /// Model: m2ae, m2ae-small, m2ae-tiny or m2ae-vit
    #[arg(long, value_name = "PRESET")]
    model: Option<String>,
    /// Folder of the run; runs/NAME-TIME when not given
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// Stop after this many steps; also the length of the schedules unless train.total_steps is set
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Seed of weights, order, masks
    #[arg(long, value_name = "S")]
    seed: Option<u64>,
    /// A TOML file with sections model, loss, train, data
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Most memory of a step, for example 2GiB: turns on checkpointing, then splits the batch, until the plan fits
    #[arg(long, value_name = "BYTES")]
    memory_budget: Option<String>,
    /// One setting, for example train.lr=3e-4; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Take the variants of kernels that `mmae tune` measured on this device; the same as train.tuned=true
    #[arg(long)]
    tuned: bool,
    /// Replace an earlier run in the same folder
    #[arg(long)]
    force: bool,
}

pub fn run(args: &Args, common: &Common) -> Result<()> {
    let config = configuration(args)?;
    let stop = args.steps.unwrap_or(config.train.steps);
    let name = Path::new(&config.data.path).file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let out = args.out.clone().unwrap_or_else(|| Path::new("runs").join(default_name(&name, now())));
    let context = open_device(common)?;
    interrupt::install()?;
    let progress = Progress::new(common);
    let mut tell = |event: crate::train::monitor::Event<'_>| progress.tell(event);
    let mut run = Run::create(&context, &out, config, args.force, &mut tell)?;
    let summary = run.train(stop, interrupt::interrupted(), &mut tell)?;
    drop(progress);
    finish(common, &context, &run, &summary)
}

fn configuration(args: &Args) -> Result<RunConfig> {
    let text = args.config.as_deref().map(files::read_text).transpose()?;
    let mut config = RunConfig::resolve(&Sources {
        file: args.config.as_deref().zip(text.as_deref()),
        environment: &environment(),
        set: &args.set,
        preset: args.model.as_deref(),
        steps: args.steps,
    })?;
    if let Some(path) = &args.data {
        let text = path.to_str().ok_or_else(|| Error::data(path, "the path is not UTF-8; give it another name"))?;
        config.data.path = text.to_owned();
    }
    if let Some(budget) = &args.memory_budget {
        config.set("train.memory_budget", budget)?;
    }
    config.train.seed = args.seed.unwrap_or(config.train.seed);
    config.train.tuned |= args.tuned;
    config.validate()?;
    Ok(config)
}

/// Says what a part of a run did: for `train` and `resume`.
pub(super) fn finish(common: &Common, context: &Context, run: &Run, summary: &Summary) -> Result<()> {
    let folder = run.dir.root();
    // A part that had nothing to do has seen no loss.
    let looked = summary.done > 0;
    if common.json {
        let seen = |value: f64| if looked { json!(value) } else { json!(null) };
        let losses: serde_json::Map<_, _> = summary
            .last
            .losses
            .named()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), seen((*value).into())))
            .collect();
        return print_json(&json!({
            "run": folder,
            "adapter": context.capabilities().adapter,
            "step": summary.step,
            "seconds": summary.seconds,
            "samples_per_second": seen(summary.last.samples_per_second),
            "losses": losses,
            "checkpoint": run.dir.latest()?,
        }));
    }
    let (step, losses) = (summary.step, &summary.last.losses);
    let (time, rate) = (duration(summary.seconds), summary.last.samples_per_second);
    if looked {
        print(format_args!("step {step}, loss {:.4}, {time}, {rate:.1} samples/s", losses.total))?;
    }
    print(format_args!("checkpoint {}", run.dir.latest()?.display()))?;
    print(format_args!("samples    {}", run.dir.sample_path(step).display()))?;
    print(format_args!("curve      {}", run.dir.plot_path().display()))
}
