//! `mmae resume`: going on with a run.

use std::path::PathBuf;

use super::progress::Progress;
use super::{Common, interrupt, open_device, train};
use crate::error::Result;
use crate::train::run::Run;

/// Go on with a run from its last checkpoint
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the run
    run: PathBuf,
    /// Stop after this many steps in all; train.total_steps when not given
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Change a setting from now on, for example train.log_every=100; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

pub fn run(args: &Args, common: &Common) -> Result<()> {
    let context = open_device(common)?;
    interrupt::install()?;
    let progress = Progress::new(common);
    let mut tell = |event: crate::train::monitor::Event<'_>| progress.tell(event);
    let mut run = Run::resume(&context, &args.run, &args.set, &mut tell)?;
    let stop = args.steps.unwrap_or(run.trainer.config().train.steps);
    let summary = run.train(stop, interrupt::interrupted(), &mut tell)?;
    drop(progress);
    train::finish(common, &context, &run, &summary)
}
