//! Watching a run: losses read back now and then, written down, and stopped at when they are no numbers any more.

use std::time::{Duration, Instant};

use super::metrics::Writer;
use super::run_dir::{RunDir, now};
use super::tensorboard::Events;
use super::trainer::Trainer;
use crate::device::Ring;
use crate::error::{Error, Result};
use crate::model::m2ae::Losses;

/// Steps skipped one after another from which training cannot be said to go on: a loss scale that halves so often has
/// left the range of a half behind.
const MOST_SKIPPED: u64 = 50;
/// Looks that may be under way at once. The recorder lets three submissions wait on the device, and a look is one.
const LOOKS: usize = 3;
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
    /// Share of the time since the last look that this thread spent waiting for data.
    pub waiting: f64,
    /// Share of that time in which the device had nothing to do, whatever the reason; at least this much. `None` on the twins.
    pub device_waited: Option<f64>,
    /// Bytes that the buffer pool holds.
    pub pool_bytes: u64,
}

impl Log {
    /// Names and values, as `metrics.jsonl` has them.
    #[must_use]
    pub fn values(&self) -> Vec<(&'static str, f64)> {
        let losses = self.losses.named().into_iter().map(|(name, value)| (name, f64::from(*value)));
        let waited = self.device_waited.map(|share| ("device_waited", share));
        losses
            .chain([
                ("lr", self.lr),
                ("gradient_norm", f64::from(self.gradient_norm)),
                ("loss_scale", f64::from(self.loss_scale)),
                ("skipped_steps", f64::from(self.skipped_steps)),
                ("samples_per_second", self.samples_per_second),
                ("waiting", self.waiting),
            ])
            .chain(waited)
            .chain([("pool_bytes", self.pool_bytes as f64)])
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

/// What the host knew when a look began.
struct Glance {
    begun: Instant,
    step: u64,
    lr: f64,
    waited: Duration,
    idle: Option<Duration>,
    pool_bytes: u64,
}

impl Glance {
    fn new(trainer: &Trainer, waited: Duration) -> Self {
        let (step, ctx) = (trainer.step_number(), trainer.context());
        let lr = trainer.config().train.lr(step);
        Self { begun: Instant::now(), step, lr, waited, idle: ctx.idle(), pool_bytes: ctx.pool().reserved }
    }
}

/// What a look brings: losses, and the optimiser's decisions, as they come from the device.
type Found = Vec<Vec<u8>>;

/// Writes metrics and TensorBoard events, and keeps the time.
pub(super) struct Monitor {
    metrics: Writer,
    pub(super) events: Events,
    start: Instant,
    start_step: u64,
    /// Samples of a step.
    samples: usize,
    stop: u64,
    /// When the first looks were found done, and after which step.
    first: Option<(Instant, u64)>,
    last: Glance,
    looks: Ring<Glance>,
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
        let last = Glance::new(trainer, Duration::ZERO);
        Ok(Self {
            metrics: Writer::append(&dir.metrics_path())?,
            events: Events::create(&dir.events_path(now()), first)?,
            start: last.begun,
            start_step: step,
            samples: trainer.samples_per_step(),
            stop,
            first: None,
            last,
            looks: Ring::new(LOOKS),
            log: Log { step, stop, ..Log::default() },
            skipped: trainer.control()?.skipped,
            skipped_in_a_row: 0,
        })
    }

    /// Begins a look at the step just made. Where too many are under way the oldest is waited for, else nothing is.
    /// `waited`: time spent waiting for data so far.
    ///
    /// # Errors
    /// As [`Monitor::finish`].
    pub(super) fn begin(&mut self, trainer: &Trainer, waited: Duration, report: Report<'_>) -> Result<()> {
        let glance = Glance::new(trainer, waited);
        match self.looks.push(glance, trainer.look()?)? {
            Some(look) => self.tell(look, Instant::now(), report),
            None => Ok(()),
        }
    }

    /// Writes down and tells what looks have found whose values have come, without waiting.
    ///
    /// # Errors
    /// As [`Monitor::finish`].
    pub(super) fn come(&mut self, report: Report<'_>) -> Result<()> {
        let now = Instant::now();
        while let Some(look) = self.looks.arrived()? {
            self.tell(look, now, report)?;
        }
        Ok(())
    }

    /// Writes down and tells what all looks under way have found; waits for those that have not arrived.
    ///
    /// # Errors
    /// `Error::NotFinite` when the loss is no number or no step has been good for long, else what the device or the disk
    /// reports.
    pub(super) fn finish(&mut self, report: Report<'_>) -> Result<()> {
        self.come(report)?;
        while let Some(look) = self.looks.oldest()? {
            self.tell(look, Instant::now(), report)?;
        }
        Ok(())
    }

    fn tell(&mut self, (glance, found): (Glance, Found), now: Instant, report: Report<'_>) -> Result<()> {
        self.log = self.note(glance, &found, now)?;
        report(Event::Log(&self.log));
        Ok(())
    }

    /// `now`: when the look was found done; the same for all that were found done together, between which no pace is measured.
    fn note(&mut self, glance: Glance, found: &Found, now: Instant) -> Result<Log> {
        let (losses, control) = Trainer::read(found);
        let step = glance.step;
        let (then, done) = self.first.filter(|(when, _)| *when < now).unwrap_or((self.start, self.start_step));
        let passed = (step.saturating_sub(done) as usize * self.samples) as f64;
        let samples_per_second = passed / now.duration_since(then).as_secs_f64().max(1e-9);
        if self.first.is_none_or(|(when, _)| when == now) {
            self.first = Some((now, step));
        }
        let last = std::mem::replace(&mut self.last, glance);
        let glance = &self.last;
        let between = glance.begun.duration_since(last.begun).as_secs_f64().max(1e-9);
        let share = |now: Duration, before: Duration| now.saturating_sub(before).as_secs_f64() / between;
        let log = Log {
            step,
            stop: self.stop,
            losses,
            lr: glance.lr,
            gradient_norm: control.norm,
            loss_scale: control.loss_scale,
            skipped_steps: control.skipped,
            samples_per_second,
            seconds_left: self.stop.saturating_sub(step) as f64 * self.samples as f64 / samples_per_second,
            waiting: share(glance.waited, last.waited),
            device_waited: glance.idle.zip(last.idle).map(|(now, before)| share(now, before)),
            pool_bytes: glance.pool_bytes,
        };
        self.write(&log)?;
        let newly = u64::from(control.skipped.saturating_sub(self.skipped));
        self.skipped = control.skipped;
        let steps = step.saturating_sub(last.step);
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

    /// How often a look had not come when it was needed.
    pub(super) const fn waits(&self) -> u64 {
        self.looks.waits()
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
