//! Watching a run: losses read back now and then, written down, and stopped at when they are no numbers any more.

use std::time::{Duration, Instant};

use super::metrics::Writer;
use super::run_dir::{RunDir, now};
use super::tensorboard::Events;
use super::trainer::Trainer;
use crate::device::Pending;
use crate::error::{Error, Result};
use crate::model::m2ae::Losses;

/// Steps skipped one after another from which training cannot be said to go on: a loss scale that halves so often has
/// left the range of a half behind.
const MOST_SKIPPED: u64 = 50;
/// What to do about a loss that is no number.
const ADVICE: &str =
    "go on from the last checkpoint with `mmae resume` and a lower train.lr, or with train.precision=f32 if it was f16";

/// One look at a run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Log {
    /// Steps done.
    pub step: u64,
    /// Where this part of the run stops.
    pub stop: u64,
    /// Losses of the last step's last micro-batch.
    pub losses: Losses<f32>,
    /// Learning rate of the last step.
    pub lr: f64,
    /// Global gradient norm of the last step, before clipping.
    pub gradient_norm: f32,
    /// Factor of the loss in the backward pass; 1 in f32.
    pub loss_scale: f32,
    /// Steps skipped so far because a gradient overflowed.
    pub skipped_steps: u32,
    /// Samples trained on per second, since the first look (compilation lies before it).
    pub samples_per_second: f64,
    /// Seconds until `stop` at this pace.
    pub seconds_left: f64,
    /// Share of the time since the last look that was spent waiting for data.
    pub waiting: f64,
    /// Bytes that the buffer pool holds.
    pub pool_bytes: u64,
}

impl Log {
    /// Names and values, as `metrics.jsonl` has them.
    #[must_use]
    pub fn values(&self) -> Vec<(&'static str, f64)> {
        let losses = self.losses.named().into_iter().map(|(name, value)| (name, f64::from(*value)));
        losses
            .chain([
                ("lr", self.lr),
                ("gradient_norm", f64::from(self.gradient_norm)),
                ("loss_scale", f64::from(self.loss_scale)),
                ("skipped_steps", f64::from(self.skipped_steps)),
                ("samples_per_second", self.samples_per_second),
                ("waiting", self.waiting),
                ("pool_bytes", self.pool_bytes as f64),
            ])
            .collect()
    }
}

/// What a run tells its caller while it goes on.
#[derive(Clone, Copy, Debug)]
pub enum Event<'a> {
    /// A step was recorded; the device may still be at it.
    Step {
        /// Steps done.
        step: u64,
        /// Where this part of the run stops.
        stop: u64,
    },
    /// Losses were read.
    Log(&'a Log),
    /// Something to tell a person, in one line; it is in `train.log` as well.
    Note(&'a str),
}

/// Takes what a run tells.
pub type Report<'a> = &'a mut dyn FnMut(Event<'_>);

/// A look that has begun: what the host knew at that moment, and what the device has been asked.
struct Glance {
    pending: Pending,
    step: u64,
    lr: f64,
    waited: Duration,
    pool_bytes: u64,
}

/// Writes metrics and TensorBoard events, and keeps the time.
pub(super) struct Monitor {
    metrics: Writer,
    pub(super) events: Events,
    start: Instant,
    start_step: u64,
    /// When the first look was taken, and after which step.
    first: Option<(Instant, u64)>,
    last: (Instant, u64, Duration),
    glance: Option<Glance>,
    /// What was found last.
    pub(super) log: Log,
    skipped: u32,
    /// Steps skipped without a good one between, as far as the looks tell.
    skipped_in_a_row: u64,
}

impl Monitor {
    pub(super) fn open(dir: &RunDir, trainer: &Trainer, stop: u64) -> Result<Self> {
        let step = trainer.step_number();
        let first = if step == 0 { 0 } else { step + 1 };
        let start = Instant::now();
        Ok(Self {
            metrics: Writer::append(&dir.metrics_path())?,
            events: Events::create(&dir.events_path(now()), first)?,
            start,
            start_step: step,
            first: None,
            last: (start, step, Duration::ZERO),
            glance: None,
            log: Log { step, stop, ..Log::default() },
            skipped: trainer.control()?.skipped,
            skipped_in_a_row: 0,
        })
    }

    /// Begins a look at the step just made, without waiting for the device. `waited`: time spent waiting for data so far.
    ///
    /// # Errors
    /// What the device reports.
    pub(super) fn begin(&mut self, trainer: &Trainer, waited: Duration) -> Result<()> {
        let (step, lr) = (trainer.step_number(), trainer.config().train.lr(trainer.step_number()));
        let pool_bytes = trainer.context().pool().reserved;
        self.glance = Some(Glance { pending: trainer.look()?, step, lr, waited, pool_bytes });
        Ok(())
    }

    /// Whether what a look asked for has come.
    pub(super) fn is_ready(&mut self) -> bool {
        self.glance.as_mut().is_some_and(|glance| glance.pending.is_ready())
    }

    /// Writes down and tells what the look begun last has found; waits for it where it has not arrived.
    ///
    /// # Errors
    /// `Error::NotFinite` when the loss is no number or no step has been good for long, else what the device or the disk
    /// reports.
    pub(super) fn finish(&mut self, samples: usize, stop: u64, report: Report<'_>) -> Result<()> {
        if let Some(glance) = self.glance.take() {
            self.log = self.note(glance, samples, stop)?;
            report(Event::Log(&self.log));
        }
        Ok(())
    }

    fn note(&mut self, glance: Glance, samples: usize, stop: u64) -> Result<Log> {
        let Glance { pending, step, lr, waited, pool_bytes } = glance;
        let (losses, control) = Trainer::read(pending)?;
        let time = Instant::now();
        let since = |(then, done): (Instant, u64)| {
            let steps = step.saturating_sub(done) as f64;
            (steps * samples as f64) / time.duration_since(then).as_secs_f64().max(1e-9)
        };
        let samples_per_second = since(self.first.unwrap_or((self.start, self.start_step)));
        self.first.get_or_insert((time, step));
        let (then, done, before) = self.last;
        let log = Log {
            step,
            stop,
            losses,
            lr,
            gradient_norm: control.norm,
            loss_scale: control.loss_scale,
            skipped_steps: control.skipped,
            samples_per_second,
            seconds_left: stop.saturating_sub(step) as f64 * samples as f64 / samples_per_second,
            waiting: waited.saturating_sub(before).as_secs_f64() / time.duration_since(then).as_secs_f64().max(1e-9),
            pool_bytes,
        };
        self.last = (time, step, waited);
        self.write(&log)?;
        let newly = u64::from(control.skipped.saturating_sub(self.skipped));
        self.skipped = control.skipped;
        let steps = step.saturating_sub(done);
        self.skipped_in_a_row = if newly < steps { 0 } else { self.skipped_in_a_row + newly };
        self.judge(&log)?;
        Ok(log)
    }

    fn write(&mut self, log: &Log) -> Result<()> {
        let values = log.values();
        self.metrics.write(log.step, &values)?;
        let losses = log.losses.named().len();
        let grouped: Vec<(String, f64)> = (values.iter().enumerate())
            .map(|(at, (name, value))| (format!("{}/{name}", if at < losses { "loss" } else { "run" }), *value))
            .collect();
        let tags: Vec<(&str, f64)> = grouped.iter().map(|(name, value)| (name.as_str(), *value)).collect();
        self.events.scalars(log.step, &tags)
    }

    fn judge(&self, log: &Log) -> Result<()> {
        if let Some((name, _)) = log.losses.named().into_iter().find(|(_, value)| !value.is_finite()) {
            return Err(Error::NotFinite { what: format!("the loss ({name})"), step: log.step, advice: ADVICE });
        }
        if self.skipped_in_a_row >= MOST_SKIPPED {
            let what = format!("the gradient of the last {} steps", self.skipped_in_a_row);
            return Err(Error::NotFinite { what, step: log.step, advice: ADVICE });
        }
        Ok(())
    }

    /// Steps and samples per second since [`Monitor::open`]; with compilation when there was no second look.
    pub(super) fn seconds(&self) -> f64 {
        self.start.elapsed().as_secs_f64()
    }
}

/// Refuses state that no run could go on from: the checkpoint before it stays the last.
///
/// # Errors
/// `Error::NotFinite` naming the tensor.
pub(super) fn require_finite(checkpoint: &super::checkpoint::Checkpoint) -> Result<()> {
    let bad = |tensor: &&super::checkpoint::Named| tensor.data.iter().any(|value| !value.is_finite());
    match checkpoint.model.iter().chain(&checkpoint.optimizer).find(bad) {
        Some(tensor) => {
            Err(Error::NotFinite { what: tensor.name.clone(), step: checkpoint.state.step, advice: ADVICE })
        }
        None => Ok(()),
    }
}
