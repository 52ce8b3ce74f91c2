//! A training run in its folder: made, gone on with, watched, interrupted, finished.
//!
//! A run is a pure function of its configuration, its data and the adapter. Batch k, the masks and what is hidden at step k
//! follow from the seed and k, so 10 steps, a stop and 10 more leave the same bytes as 20 steps.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::checkpoint::{Checkpoint, Position};
use super::config::RunConfig;
use super::monitor::{Event, Log, Monitor, Report, require_finite};
use super::plan::{plan, prepare};
use super::prepared::Prepared;
use super::run_dir::RunDir;
use super::trainer::{Trainer, expected};
use super::versions::{differences, versions};
use super::{budget, files, grid, metrics, plot, samples, tuning};
use crate::data::{Augment, Batch, Collator, Dataset, Loader, LoaderOptions, Tokenizer};
use crate::device::Context;
use crate::error::{Error, Result};

/// Samples in a sample picture.
const SAMPLES: usize = 6;
/// Fields that a run cannot change once it has begun: shapes, and what fixes which samples a step sees.
const FIXED: [&str; 7] = [
    "model.",
    "train.seed",
    "train.batch",
    "train.micro_batches",
    "train.memory_budget",
    "train.freeze",
    "data.tokenizer",
];

/// A run that can train.
pub struct Run {
    /// Its folder.
    pub dir: RunDir,
    /// Model, optimiser, schedules.
    pub trainer: Trainer,
    /// Captions to token ids.
    pub tokenizer: Arc<Tokenizer>,
    dataset: Arc<Dataset>,
    /// What the sample pictures show.
    pictured: Batch,
}

/// What one part of a run did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// Steps done by all parts together.
    pub step: u64,
    /// Steps that this part did; with none, it saw no loss.
    pub done: u64,
    /// Seconds that this part took, files and compilation included.
    pub seconds: f64,
    /// How often it waited for the losses to come: where it stops, saves or shows, not where it only logs.
    pub waits: u64,
    /// The last look at it.
    pub last: Log,
}

impl Run {
    /// Starts a run in the folder `root`. The tokenizer is the one that `data.tokenizer` names, else one trained on the
    /// captions with at most `model.vocab` ids; either way `model.vocab` becomes its size. What `train.memory_budget` asks for
    /// is chosen here and written into the run's configuration. `force` replaces an earlier run,
    /// once all else is in order.
    ///
    /// # Errors
    /// `Error::Config` for a folder in use or a value out of range, `Error::Data` for data that cannot be used,
    /// `Error::Limit` and `Error::OutOfMemory` for a model beyond the device, `Error::Io`.
    pub fn create(ctx: &Context, root: &Path, mut config: RunConfig, force: bool, report: Report<'_>) -> Result<Self> {
        config.validate()?;
        RunDir::check(root, force)?;
        let table = config.train.tuned.then(|| tuning::cached(ctx)).transpose()?;
        ctx.set_tuning(table.as_ref().map(|table| table.choices.clone()).unwrap_or_default());
        let dataset = open_data(&config)?;
        let tokenizer = match &config.data.tokenizer {
            Some(path) => Tokenizer::from_file(path)?,
            None => Tokenizer::train(&dataset.captions(), config.model.vocab)?,
        };
        config.model.vocab = tokenizer.vocab();
        let fitted = budget::fit(&mut config, ctx.capabilities())?;
        require_fit(ctx, &config)?;
        let pictured = pictured(&config, &dataset, &tokenizer)?;
        let trainer = Trainer::new(ctx, &config)?;
        let dir = RunDir::create(root, &config, force)?;
        files::write(&dir.tokenizer_path(), &tokenizer.to_bytes()?)?;
        if let Some(table) = table {
            table.save(&dir.tuning_path())?;
        }
        let run = Self { dir, trainer, tokenizer: Arc::new(tokenizer), dataset, pictured };
        run.describe(report)?;
        fitted.map_or(Ok(()), |said| run.note(report, &said))?;
        Ok(run)
    }

    /// Goes on with the run in the folder `root` from its last checkpoint, with `set` (`train.lr=1e-4` …) changed from now
    /// on. Metrics and checkpoints of later steps, which will be done again, are removed. What computes otherwise than before is
    /// said, a line for each difference.
    ///
    /// # Errors
    /// `Error::Config` when it is no run or a field cannot change any more, `Error::Checkpoint` when there is none or it is
    /// damaged, else as [`Run::create`].
    pub fn resume(ctx: &Context, root: &Path, set: &[String], report: Report<'_>) -> Result<Self> {
        let dir = RunDir::open(root)?;
        let folder = dir.latest()?;
        let mut checkpoint = Checkpoint::load(&folder, |config| Ok(expected(config)))?;
        let began_tuned = checkpoint.state.config.train.tuned;
        change(&mut checkpoint.state.config, set)?;
        let config = checkpoint.state.config.clone();
        tuning::resume(ctx, &dir.tuning_path(), began_tuned, config.train.tuned)?;
        let dataset = open_data(&config)?;
        let tokenizer = Tokenizer::from_file(dir.tokenizer_path())?;
        if tokenizer.vocab() != config.model.vocab {
            let reason = format!("has {} ids, the run's model {}", tokenizer.vocab(), config.model.vocab);
            return Err(Error::data(dir.tokenizer_path(), reason));
        }
        let pictured = pictured(&config, &dataset, &tokenizer)?;
        let mut trainer = Trainer::new(ctx, &config)?;
        let recorded = std::mem::take(&mut checkpoint.state.versions);
        trainer.restore(checkpoint)?;
        dir.rewind(trainer.step_number())?;
        if !set.is_empty() {
            files::write(&dir.config_path(), config.to_toml().as_bytes())?;
        }
        let run = Self { dir, trainer, tokenizer: Arc::new(tokenizer), dataset, pictured };
        run.describe(report)?;
        for line in differences(run.trainer.step_number(), &recorded, &versions(ctx, config.train.precision)) {
            run.note(report, &line)?;
        }
        Ok(run)
    }

    /// Trains until `stop` steps are done in all, then leaves a checkpoint, a sample picture and the loss curve. When
    /// `interrupted` becomes true a checkpoint is written first. Stopping where the run already stands does nothing.
    ///
    /// # Errors
    /// `Error::Interrupted`; `Error::NotFinite` when the loss is no number any more (earlier checkpoints stay);
    /// `Error::Config` when the run is past `stop`; else what the data, the device or the disk report.
    pub fn train(&mut self, stop: u64, interrupted: &AtomicBool, report: Report<'_>) -> Result<Summary> {
        let from = self.trainer.step_number();
        if stop < from {
            let reason = format!("{stop}, but the run has done {from} steps already; give a larger number");
            return Err(Error::config("steps", reason));
        }
        let _preparation = prepare(self.trainer.context(), self.trainer.config())?;
        let mut monitor = Monitor::open(&self.dir, &self.trainer, stop)?;
        let mut loader = self.loader()?;
        // From here on the pool holds what a step needs, at step 10 as at step 1,000.
        self.trainer.context().trim();
        let schedule = self.trainer.config().train.steps;
        if stop > schedule {
            self.note(report, &format!("the schedules end at step {schedule}; after it the learning rate stays put"))?;
        }
        let (mut told, ctx) = (0, self.trainer.context().clone());
        while self.trainer.step_number() < stop {
            if interrupted.load(Ordering::SeqCst) {
                monitor.finish(report)?;
                return Err(self.interrupt(report));
            }
            // While this waits for data it notices when the device runs out of work.
            let batch = loader.next_batch_while(&mut || ctx.poll())??;
            self.trainer.step_prepared(batch)?;
            let step = self.trainer.step_number();
            report(Event::Step { step, stop });
            if step == from + 1 && self.trainer.config().train.tuned {
                let said = match ctx.tuning_met() {
                    _ if ctx.tuning().is_empty() => "tuned: the table holds no choice, all goes by rule".to_owned(),
                    (met, all) => {
                        format!("tuned: the table has a choice for {met} of {all} classes of products and attention")
                    }
                };
                self.note(report, &said)?;
            }
            for reason in loader.skipped().iter().skip(told) {
                self.note(report, &format!("skipped a record: {reason}"))?;
            }
            told = loader.skipped().len();
            let due = |every: u64| (every > 0 && step.is_multiple_of(every)) || step == stop;
            let train = &self.trainer.config().train;
            let (look, save, show) = (due(train.log_every), due(train.checkpoint_every), due(train.sample_every));
            // A look at the losses is begun at one step and finished at a later one, when they have come: nothing waits.
            monitor.come(report)?;
            if look {
                monitor.begin(&self.trainer, loader.waited(), report)?;
            }
            // What counts comes first: a loss that is no number stops the run before anything is kept, and a disk with room
            // for one of the two gets the checkpoint.
            if save || show {
                monitor.finish(report)?;
            }
            if save {
                self.checkpoint()?;
            }
            if show {
                self.sample(&mut monitor, report)?;
            }
        }
        if from == stop {
            self.note(report, &format!("nothing to do: {stop} steps are done"))?;
        } else {
            self.plot()?;
        }
        monitor.finish(report)?;
        let (step, seconds) = (self.trainer.step_number(), monitor.seconds());
        Ok(Summary { step, done: step - from, seconds, waits: monitor.waits(), last: monitor.log })
    }

    /// Writes a checkpoint and removes old ones. Returns its folder.
    ///
    /// # Errors
    /// `Error::NotFinite` for state that no run could go on from, else what the device or the disk reports; earlier
    /// checkpoints are then as before.
    pub fn checkpoint(&self) -> Result<PathBuf> {
        let versions = versions(self.trainer.context(), self.trainer.config().train.precision);
        let checkpoint = self.trainer.checkpoint(self.position(), &versions)?;
        require_finite(&checkpoint)?;
        let folder = checkpoint.save(&self.dir.checkpoints())?;
        self.dir.prune(self.trainer.config().train.keep_checkpoints)?;
        Ok(folder)
    }

    /// The data set that it trains on.
    #[must_use]
    pub const fn dataset(&self) -> &Arc<Dataset> {
        &self.dataset
    }

    fn position(&self) -> Position {
        let taken = self.trainer.step_number().saturating_mul(self.trainer.samples_per_step() as u64);
        let all = self.dataset.len().max(1) as u64;
        Position { epoch: taken / all, sample: taken % all }
    }

    /// Batches whose images the workers have put where the device reads them.
    fn loader(&self) -> Result<Loader<Result<Prepared>>> {
        let RunConfig { model, train, data, .. } = self.trainer.config();
        let cores = LoaderOptions::default().workers;
        let crop = (data.crop < 1.0).then_some(((data.crop * data.crop) as f32, 1.0));
        let options = LoaderOptions {
            batch: self.trainer.samples_per_step(),
            image_size: model.image_size,
            text_length: model.text_length,
            seed: train.seed,
            start_step: self.trainer.step_number(),
            workers: if data.workers == 0 { cores } else { data.workers },
            augment: Augment { flip: data.flip, crop },
            bad_limit: Some(data.max_skipped),
            ..LoaderOptions::default()
        };
        let preparer = self.trainer.preparer();
        let finish = move |batch| preparer.prepare(&batch);
        Loader::with(Arc::clone(&self.dataset), Arc::clone(&self.tokenizer), options, finish)
    }

    fn interrupt(&self, report: Report<'_>) -> Error {
        match self.checkpoint() {
            Ok(folder) => {
                // The checkpoint is what counts; a full disk may refuse the line about it.
                let _ = self.note(report, &format!("interrupted; wrote {}", folder.display()));
                Error::Interrupted { step: self.trainer.step_number() }
            }
            Err(error) => error,
        }
    }

    fn sample(&mut self, monitor: &mut Monitor, report: Report<'_>) -> Result<()> {
        // The recorded step's memory serves the samples meanwhile.
        self.trainer.forget_recording();
        let step = self.trainer.step_number();
        let picture = samples::picture(&self.trainer.model, &self.tokenizer, &self.pictured)?;
        // What only inference needs goes back to the device.
        self.trainer.context().trim();
        let png = grid::png(&picture)?;
        let path = self.dir.sample_path(step);
        files::write(&path, &png)?;
        monitor.events.image(step, "samples", picture.width(), picture.height(), png)?;
        self.note(report, &format!("samples at step {step}: {}", path.display()))
    }

    fn plot(&self) -> Result<()> {
        let records = metrics::read(&self.dir.metrics_path())?;
        let title = self.dir.root().file_name().unwrap_or_default().to_string_lossy().into_owned();
        let names = ["total", "recon_image", "recon_text", "jepa", "align"];
        files::write(&self.dir.plot_path(), plot::loss_curve(&title, &records, &names)?.as_bytes())
    }

    /// Adds this part of the run to `env.json` and says what the run is made of.
    fn describe(&self, report: Report<'_>) -> Result<()> {
        let ctx = self.trainer.context();
        let versions = versions(ctx, self.trainer.config().train.precision);
        let mut environment: serde_json::Map<_, _> = versions.into_iter().map(|(k, v)| (k, v.into())).collect();
        environment.insert("tuning".into(), serde_json::json!(*ctx.tuning()));
        environment.insert("command".into(), std::env::args().collect::<Vec<_>>().into());
        environment.insert("step".into(), self.trainer.step_number().into());
        environment.insert("started".into(), super::run_dir::timestamp(super::run_dir::now()).into());
        self.dir.write_environment(environment)?;
        let (model, data) = (&self.trainer.model, &self.dataset);
        self.dir.log(&format!("device: {}", ctx.capabilities().summary()))?;
        self.note(report, &format!("model: {} parameters, {} token ids", model.params.elements(), model.config.vocab))?;
        let dropped = match data.dropped() {
            0 => String::new(),
            n => format!(", {n} with a caption that is labelled false left out"),
        };
        let (path, form, all) = (data.path().display(), data.form(), data.len());
        self.note(report, &format!("data: {all} samples in {path} ({form}){dropped}"))
    }

    fn note(&self, report: Report<'_>, line: &str) -> Result<()> {
        report(Event::Note(line));
        self.dir.log(line)
    }
}

fn open_data(config: &RunConfig) -> Result<Arc<Dataset>> {
    if config.data.path.is_empty() {
        return Err(Error::config("data.path", "not given; name a folder or archive with --data"));
    }
    if config.model.channels != 3 {
        return Err(Error::config(
            "model.channels",
            format!("{}, but images are read as RGB: 3", config.model.channels),
        ));
    }
    Ok(Arc::new(Dataset::open(&config.data.path)?))
}

/// Refuses what the device would refuse in a step, before a batch of that size is put together in the memory of the host.
fn require_fit(ctx: &Context, config: &RunConfig) -> Result<()> {
    let mut config = config.clone();
    // All micro-batches are alike.
    config.train.micro_batches = 1;
    plan(&config, Some(ctx.capabilities().clone()))?.refused().map_or(Ok(()), Err)
}

/// The samples of the sample pictures, decoded once.
fn pictured(config: &RunConfig, dataset: &Arc<Dataset>, tokenizer: &Tokenizer) -> Result<Batch> {
    let (side, length) = (config.model.image_size, config.model.text_length);
    let collator = Collator::new(Arc::clone(dataset), Arc::new(tokenizer.clone()), side, length, 0)?;
    samples::spread(&collator, SAMPLES)
}

/// Applies `section.field=value` to a run that has begun.
fn change(config: &mut RunConfig, set: &[String]) -> Result<()> {
    for item in set {
        let (key, value) = item
            .split_once('=')
            .ok_or_else(|| Error::config(item, "--set takes section.field=value, for example train.lr=3e-4"))?;
        let key = key.trim();
        if FIXED.iter().any(|fixed| if fixed.ends_with('.') { key.starts_with(fixed) } else { key == *fixed }) {
            return Err(Error::config(key, "cannot change in a run that has begun; start a new one with `mmae train`"));
        }
        config.set(key, value.trim())?;
    }
    config.validate()
}
