//! `mmae demo`: train on the emoji that come with the repository, measure, and show the pictures.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Map, Value, json};

use super::progress::{Progress, duration};
use super::{Common, interrupt, open_device, print, print_json};
use crate::data::{Collator, Dataset};
use crate::device::Context;
use crate::error::{Error, Result};
use crate::eval::report::Report;
use crate::model::config::{Expansion, LossConfig, ModelConfig, TextHead, m2ae_small};
use crate::train::config::{RunConfig, TrainConfig};
use crate::train::evaluate::{evaluate, mean_image};
use crate::train::monitor::Event;
use crate::train::run::{Run, Summary};
use crate::train::{files, grid, samples};

/// The run's folder when none is given; the demo replaces what an earlier demo left there.
const FOLDER: &str = "runs/demo";
/// Samples in the picture of held-out pairs.
const PICTURED: usize = 6;
/// Memory for decoded samples while measuring: all of them.
const CACHE: usize = 64 << 20;

/// Train on bundled emoji and their names, then print a table of results
#[derive(clap::Args)]
pub struct Args {
    /// Folder of the run; runs/demo when not given, which is replaced
    #[arg(long, value_name = "RUN")]
    out: Option<PathBuf>,
    /// Train for this many steps instead of the demo's own number
    #[arg(long, value_name = "N")]
    steps: Option<u64>,
    /// Replace an earlier run in the folder given with --out
    #[arg(long)]
    force: bool,
}

/// What the demo trains, by kind of adapter: minutes on a processor of two cores, about a minute on a GPU.
#[must_use]
pub fn demo_config(software: bool) -> RunConfig {
    let model = ModelConfig {
        image_size: 64,
        // Four tokens of 32 x 32 pixels: nearly all arithmetic is in the patches and in one matrix for each position, which
        // draw more for it than blocks over many tokens would.
        patch: 32,
        width: 192,
        depth: 1,
        decoder_depth: 0,
        expansion: Expansion::Dense,
        heads: 12,
        text_length: 12,
        text_embed: 128,
        text_width: 128,
        text_depth: 0,
        text_head: TextHead::Tokens,
        latent: 192,
        predictor_depth: 0,
        vocab: 1024,
        ..m2ae_small()
    };
    // A GPU takes the same shapes at twice the width, and more of everything.
    let (model, steps, batch, lr) = if software {
        (model, 2500, 16, 3e-3)
    } else {
        (ModelConfig { width: 384, patch: 16, text_width: 128, latent: 256, ..model }, 4000, 32, 1e-3)
    };
    let train = TrainConfig { steps, batch, lr, checkpoint_every: 0, sample_every: 1000, ..TrainConfig::default() };
    let loss = LossConfig { recon_image: 20.0, jepa: 0.3, ..LossConfig::default() };
    RunConfig { model, loss, train, ..RunConfig::default() }
}

pub fn run(args: &Args, common: &Common) -> Result<()> {
    let data = bundled()?;
    let context = open_device(common)?;
    let mut config = demo_config(context.capabilities().software);
    config.train.steps = args.steps.unwrap_or(config.train.steps);
    config.data.path = data.join("train").to_string_lossy().into_owned();
    let out = args.out.clone().unwrap_or_else(|| PathBuf::from(FOLDER));
    interrupt::install()?;
    let progress = Progress::new(common);
    let mut tell = |event: Event<'_>| progress.tell(event);
    let mut run = Run::create(&context, &out, config, args.force || args.out.is_none(), &mut tell)?;
    let stop = run.trainer.config().train.steps;
    let summary = run.train(stop, interrupt::interrupted(), &mut tell)?;
    drop(progress);
    let reports = measure(&run, &data, common)?;
    let pictures = [run.dir.sample_path(summary.step), held_out_picture(&run, &data)?];
    let outcome = Outcome { context: &context, run: &run, summary: &summary, reports: &reports, pictures: &pictures };
    if common.json { print_json(&outcome.to_json()) } else { print(outcome.text()) }
}

/// The folder with `train` and `held_out`: of the source tree that this binary was built from, else below the current folder.
fn bundled() -> Result<PathBuf> {
    let beside = Path::new("examples").join("data").join("emoji");
    let places = [Path::new(env!("CARGO_MANIFEST_DIR")).join(&beside), beside.clone()];
    places.into_iter().find(|place| place.join("train").is_dir()).ok_or_else(|| {
        let reason = "the demo's images are not here: run it inside a checkout of the repository, or train on images of \
                      your own with `mmae train --data`";
        Error::data(beside, reason)
    })
}

fn collator(run: &Run, dataset: Arc<Dataset>) -> Result<Collator> {
    let model = &run.trainer.config().model;
    Collator::new(dataset, Arc::clone(&run.tokenizer), model.image_size, model.text_length, CACHE)
}

/// Reports on the training pairs and on the held-out ones, both against the mean image of the former.
fn measure(run: &Run, data: &Path, common: &Common) -> Result<[Report; 2]> {
    common.note("measuring on training and held-out pairs");
    let batch = run.trainer.config().train.batch;
    let train = collator(run, Arc::clone(run.dataset()))?;
    let held_out = collator(run, Arc::new(Dataset::open(data.join("held_out"))?))?;
    let mean = mean_image(&train, batch)?;
    let report = |collator: &Collator, split: &str| {
        if interrupt::interrupted().load(Ordering::SeqCst) {
            return Err(Error::Interrupted { step: run.trainer.step_number() });
        }
        let (report, skipped) = evaluate(&run.trainer.model, collator, Some(&mean), batch, split)?;
        common.skipped(&skipped);
        Ok(report)
    };
    Ok([report(&train, "train")?, report(&held_out, "held_out")?])
}

fn held_out_picture(run: &Run, data: &Path) -> Result<PathBuf> {
    let batch = samples::spread(&collator(run, Arc::new(Dataset::open(data.join("held_out"))?))?, PICTURED)?;
    let picture = samples::picture(&run.trainer.model, &run.tokenizer, &batch)?;
    let path = run.dir.samples().join("held_out.png");
    files::write(&path, &grid::png(&picture)?)?;
    Ok(path)
}

/// All that the demo found.
struct Outcome<'a> {
    context: &'a Context,
    run: &'a Run,
    summary: &'a Summary,
    reports: &'a [Report; 2],
    pictures: &'a [PathBuf; 2],
}

impl Outcome<'_> {
    fn to_json(&self) -> Value {
        let (has, t) = (self.context.capabilities(), &self.run.trainer.config().train);
        let mut all = Map::new();
        all.insert("adapter".into(), has.adapter.as_str().into());
        all.insert("driver".into(), has.driver.as_str().into());
        all.insert("backend".into(), has.backend.as_str().into());
        all.insert("steps".into(), self.summary.step.into());
        all.insert("batch".into(), t.batch.into());
        all.insert("seconds".into(), self.summary.seconds.into());
        all.insert("samples_per_second".into(), self.summary.last.samples_per_second.into());
        for report in self.reports {
            all.extend(report.to_json());
            all.insert(format!("chance10_{}", report.split), chance(report).into());
        }
        // The training images' mean is the one yardstick of both splits; scripts may ask for it without a split.
        let mean = self.reports[0].mean_image.map(|scores| scores.psnr());
        all.insert("psnr_mean_image".into(), mean.into());
        all.insert("run".into(), json!(self.run.dir.root()));
        all.insert("pictures".into(), json!(self.pictures));
        Value::Object(all)
    }

    fn text(&self) -> String {
        let (has, t) = (self.context.capabilities(), &self.run.trainer.config().train);
        let (steps, time) = (self.summary.step, duration(self.summary.seconds));
        let rate = self.summary.last.samples_per_second;
        let mut lines = vec![
            format!("adapter   {}", has.summary()),
            format!("training  {steps} steps of {} samples in {time}, {rate:.1} samples/s", t.batch),
            String::new(),
            format!("{:<34}{:>10}{:>10}", "", "training", "held out"),
        ];
        for (name, value, format) in ROWS {
            let cells = self.reports.each_ref().map(|report| value(report).map_or("-".into(), format));
            lines.push(format!("{name:<34}{:>10}{:>10}", cells[0], cells[1]));
        }
        lines.push(String::new());
        lines.push(format!("pictures  {} (training)", self.pictures[0].display()));
        lines.push(format!("          {} (held out)", self.pictures[1].display()));
        lines.push(format!("curve     {}", self.run.dir.plot_path().display()));
        lines.push(format!("run       {}", self.run.dir.root().display()));
        lines.join("\n")
    }
}

type Row = (&'static str, fn(&Report) -> Option<f64>, fn(f64) -> String);

/// The table: name, number, how it is printed.
const ROWS: [Row; 10] = [
    ("pairs", |r| r.image_to_text.as_ref().map(|found| found.queries as f64), whole),
    ("PSNR", |r| r.image.map(|scores| scores.psnr()), decibels),
    ("  of the mean image", |r| r.mean_image.map(|scores| scores.psnr()), decibels),
    ("  from text alone", |r| r.from_text.map(|scores| scores.psnr()), decibels),
    ("SSIM", |r| r.image.map(|scores| scores.ssim()), share),
    ("  of the mean image", |r| r.mean_image.map(|scores| scores.ssim()), share),
    ("caption tokens read back", |r| r.token_accuracy, percent),
    ("recall@10 image to text", |r| r.image_to_text.as_ref().and_then(|found| found.at(10)), percent),
    ("recall@10 text to image", |r| r.text_to_image.as_ref().and_then(|found| found.at(10)), percent),
    ("  by chance", chance, percent),
];

/// recall@10 of random order.
fn chance(report: &Report) -> Option<f64> {
    report.image_to_text.as_ref()?.chance.iter().find(|(k, _)| *k == 10).map(|(_, share)| *share)
}

fn whole(value: f64) -> String {
    format!("{value:.0}")
}

fn decibels(value: f64) -> String {
    format!("{value:.2} dB")
}

fn share(value: f64) -> String {
    format!("{value:.3}")
}

fn percent(value: f64) -> String {
    format!("{:.1} %", 100.0 * value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_configurations_are_valid_and_their_data_is_here() {
        for software in [true, false] {
            demo_config(software).validate().unwrap();
        }
        let data = bundled().unwrap();
        let samples = ["train", "held_out"].map(|split| Dataset::open(data.join(split)).unwrap().len());
        assert_eq!(samples, [400, 100]);
    }
}
