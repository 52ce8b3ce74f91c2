//! Everything that a training run is told: model, losses, optimiser, data.

use crate::error::{Error, Result};
use crate::model::config::{LossConfig, ModelConfig, m2ae_small};
use crate::model::fields::{Choice, Section, Slot};

/// How the learning rate moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Schedule {
    /// Linear warm-up, then a half cosine down to 1 % of the peak.
    #[default]
    Cosine,
    /// The peak at every step (after a warm-up, if one is asked for).
    Constant,
}

impl Choice for Schedule {
    fn names(&self) -> &'static [&'static str] {
        &["cosine", "constant"]
    }
    fn name(&self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::Constant => "constant",
        }
    }
    fn choose(&mut self, name: &str) -> bool {
        *self = match name {
            "cosine" => Self::Cosine,
            "constant" => Self::Constant,
            _ => return false,
        };
        true
    }
}

/// How activations, working weights and activation gradients lie in memory. Arithmetic is f32 either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Four bytes a number.
    #[default]
    F32,
    /// Two bytes a number, with a dynamic loss scale.
    F16,
}

impl Choice for Precision {
    fn names(&self) -> &'static [&'static str] {
        &["f32", "f16"]
    }
    fn name(&self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
        }
    }
    fn choose(&mut self, name: &str) -> bool {
        *self = match name {
            "f32" => Self::F32,
            "f16" => Self::F16,
            _ => return false,
        };
        true
    }
}

/// Optimiser, schedules, and what is written when.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainConfig {
    /// Updates R of the whole run, `total_steps` in files: the length of the schedules.
    pub steps: u64,
    /// Samples per forward pass.
    pub batch: usize,
    /// Forward passes whose gradients are added before one update; an update sees `batch * micro_batches` samples.
    pub micro_batches: usize,
    /// Peak learning rate.
    pub lr: f64,
    /// AdamW: decay of the first moment.
    pub beta1: f64,
    /// AdamW: decay of the second moment.
    pub beta2: f64,
    /// AdamW: added to the root of the second moment.
    pub eps: f64,
    /// AdamW: decoupled weight decay, on the weights of linear layers and convolutions.
    pub weight_decay: f64,
    /// Largest global gradient norm; 0 switches clipping off.
    pub clip: f64,
    /// Warm-up steps W; not given: 5 % of the steps for `cosine`, none for `constant`.
    pub warmup: Option<u64>,
    /// How the learning rate moves.
    pub schedule: Schedule,
    /// Decay of the target encoder's moving average; not given: from 0.996 to 1 over the run.
    pub ema: Option<f64>,
    /// Storage of activations.
    pub precision: Precision,
    /// Recompute the activations inside each block in the backward pass (gradient checkpointing): less memory, more time.
    pub checkpoint_blocks: bool,
    /// Take the variants of kernels that `mmae tune` measured on this device, not those chosen by rule.
    pub tuned: bool,
    /// Most bytes that a step may take; a new run changes `checkpoint_blocks`, `batch` and `micro_batches` to stay within.
    pub memory_budget: Option<u64>,
    /// Seed of initial weights, order of samples, masks and dropouts.
    pub seed: u64,
    /// Steps between checkpoints; 0: only at the end.
    pub checkpoint_every: u64,
    /// Steps between sample pictures; 0: only at the end.
    pub sample_every: u64,
    /// Steps between lines of metrics.
    pub log_every: u64,
    /// Newest checkpoints to keep; 0: all.
    pub keep_checkpoints: usize,
    /// Probability that a sample with both modalities has its image hidden from the encoder.
    pub hide_image: f64,
    /// Probability that a sample with both modalities has its text hidden from the encoder.
    pub hide_text: f64,
    /// Parameters whose names begin with one of these are not trained.
    pub freeze: Vec<String>,
}

impl Default for TrainConfig {
    fn default() -> Self {
        Self {
            steps: 2000,
            batch: 8,
            micro_batches: 1,
            lr: 3e-4,
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.05,
            clip: 1.0,
            warmup: None,
            schedule: Schedule::Cosine,
            ema: None,
            precision: Precision::F32,
            checkpoint_blocks: false,
            tuned: false,
            memory_budget: None,
            seed: 0,
            checkpoint_every: 500,
            sample_every: 500,
            log_every: 10,
            keep_checkpoints: 3,
            hide_image: 0.1,
            hide_text: 0.1,
            freeze: Vec::new(),
        }
    }
}

impl Section for TrainConfig {
    const NAME: &'static str = "train";

    fn slots(&mut self) -> Vec<(&'static str, Slot<'_>)> {
        vec![
            ("total_steps", Slot::Long(&mut self.steps)),
            ("batch", Slot::Count(&mut self.batch)),
            ("micro_batches", Slot::Count(&mut self.micro_batches)),
            ("lr", Slot::Real(&mut self.lr)),
            ("beta1", Slot::Real(&mut self.beta1)),
            ("beta2", Slot::Real(&mut self.beta2)),
            ("eps", Slot::Real(&mut self.eps)),
            ("weight_decay", Slot::Real(&mut self.weight_decay)),
            ("clip", Slot::Real(&mut self.clip)),
            ("warmup", Slot::MaybeLong(&mut self.warmup)),
            ("schedule", Slot::Choice(&mut self.schedule)),
            ("ema", Slot::MaybeReal(&mut self.ema)),
            ("precision", Slot::Choice(&mut self.precision)),
            ("checkpoint_blocks", Slot::Flag(&mut self.checkpoint_blocks)),
            ("tuned", Slot::Flag(&mut self.tuned)),
            ("memory_budget", Slot::MaybeBytes(&mut self.memory_budget)),
            ("seed", Slot::Long(&mut self.seed)),
            ("checkpoint_every", Slot::Long(&mut self.checkpoint_every)),
            ("sample_every", Slot::Long(&mut self.sample_every)),
            ("log_every", Slot::Long(&mut self.log_every)),
            ("keep_checkpoints", Slot::Count(&mut self.keep_checkpoints)),
            ("hide_image", Slot::Real(&mut self.hide_image)),
            ("hide_text", Slot::Real(&mut self.hide_text)),
            ("freeze", Slot::List(&mut self.freeze)),
        ]
    }
}

impl TrainConfig {
    /// Warm-up steps W in effect: as given, else 5 % of the steps with half rounded up (`cosine`) or none (`constant`).
    #[must_use]
    pub fn warmup_steps(&self) -> u64 {
        match (self.warmup, self.schedule) {
            (Some(steps), _) => steps,
            (None, Schedule::Cosine) => self.steps.saturating_mul(5).saturating_add(50) / 100,
            (None, Schedule::Constant) => 0,
        }
    }

    /// Learning rate at step t = 1 … R: `peak t / W` up to W, then `peak (0.01 + 0.99 (1 + cos(pi (t-W)/(R-W))) / 2)`,
    /// or the peak for a constant schedule. Beyond R it stays where it ended.
    #[must_use]
    pub fn lr(&self, step: u64) -> f64 {
        let (warmup, step) = (self.warmup_steps(), step.min(self.steps));
        if step <= warmup && warmup > 0 {
            return self.lr * step as f64 / warmup as f64;
        }
        match self.schedule {
            Schedule::Constant => self.lr,
            Schedule::Cosine => {
                let rest = self.steps.saturating_sub(warmup).max(1) as f64;
                let angle = std::f64::consts::PI * step.saturating_sub(warmup) as f64 / rest;
                self.lr * (0.01 + 0.99 * (1.0 + angle.cos()) / 2.0)
            }
        }
    }

    /// Decay of the target encoder's moving average at step t = 1 … R: as fixed, else
    /// `1 - 0.004 (1 + cos(pi t / R)) / 2`.
    #[must_use]
    pub fn ema(&self, step: u64) -> f64 {
        self.ema.unwrap_or_else(|| {
            let angle = std::f64::consts::PI * step.min(self.steps) as f64 / self.steps.max(1) as f64;
            1.0 - 0.004 * (1.0 + angle.cos()) / 2.0
        })
    }

    /// Checks ranges.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first field out of range.
    pub fn validate(&self) -> Result<()> {
        let largest = 1 << 24;
        let whole =
            [("total_steps", self.steps), ("batch", self.batch as u64), ("micro_batches", self.micro_batches as u64)];
        for (name, value) in whole.into_iter().chain([("log_every", self.log_every)]) {
            let most = if name == "total_steps" { i64::MAX as u64 } else { largest };
            check(name, (1..=most).contains(&value), || format!("{value} is not between 1 and {most}"))?;
        }
        let positive = [("lr", self.lr), ("eps", self.eps)];
        for (name, value) in positive {
            check(name, value.is_finite() && value > 0.0, || format!("{value} is not positive"))?;
        }
        for (name, value) in [("weight_decay", self.weight_decay), ("clip", self.clip)] {
            check(name, value.is_finite() && value >= 0.0, || format!("{value} is negative"))?;
        }
        for (name, value) in [("beta1", self.beta1), ("beta2", self.beta2)] {
            check(name, (0.0..1.0).contains(&value), || format!("{value} is not in [0, 1)"))?;
        }
        for (name, value) in [("hide_image", self.hide_image), ("hide_text", self.hide_text)] {
            check(name, (0.0..=1.0).contains(&value), || format!("{value} is not a probability"))?;
        }
        let both = self.hide_image + self.hide_text;
        check("hide_text", both <= 1.0, || {
            format!("hide_image + hide_text is {both}, a sample is never hidden whole")
        })?;
        let ema = self.ema.unwrap_or(1.0);
        check("ema", (0.0..=1.0).contains(&ema), || format!("{ema} is not between 0 and 1"))?;
        check("memory_budget", self.memory_budget != Some(0), || "0 bytes hold nothing".into())?;
        let warmup = self.warmup_steps();
        check("warmup", warmup <= self.steps, || format!("{warmup} is more than the {} steps", self.steps))
    }
}

fn check(field: &str, holds: bool, reason: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::config(format!("train.{field}"), reason())) }
}

/// Where samples come from and how they are prepared.
#[derive(Debug, Clone, PartialEq)]
pub struct DataConfig {
    /// Folder, archive or table of samples; empty: none given.
    pub path: String,
    /// A `tokenizer.json`; not given: one is trained on the captions.
    pub tokenizer: Option<String>,
    /// Mirror every second image at random.
    pub flip: bool,
    /// Shortest side of a random crop as a share of the image's; 1: no random crop.
    pub crop: f64,
    /// Threads that read and decode; 0: as many as the machine has cores.
    pub workers: usize,
    /// Unreadable records to skip before giving up.
    pub max_skipped: usize,
}

impl Default for DataConfig {
    fn default() -> Self {
        Self { path: String::new(), tokenizer: None, flip: false, crop: 1.0, workers: 0, max_skipped: 100 }
    }
}

impl Section for DataConfig {
    const NAME: &'static str = "data";

    fn slots(&mut self) -> Vec<(&'static str, Slot<'_>)> {
        vec![
            ("path", Slot::Text(&mut self.path)),
            ("tokenizer", Slot::MaybeText(&mut self.tokenizer)),
            ("flip", Slot::Flag(&mut self.flip)),
            ("crop", Slot::Real(&mut self.crop)),
            ("workers", Slot::Count(&mut self.workers)),
            ("max_skipped", Slot::Count(&mut self.max_skipped)),
        ]
    }
}

impl DataConfig {
    /// Checks ranges.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first field out of range.
    pub fn validate(&self) -> Result<()> {
        if !(self.crop > 0.0 && self.crop <= 1.0) {
            return Err(Error::config("data.crop", format!("{} is not in (0, 1]", self.crop)));
        }
        if self.workers > 1024 {
            return Err(Error::config("data.workers", format!("{} is more than 1024 threads", self.workers)));
        }
        Ok(())
    }
}

/// A whole run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunConfig {
    /// Shapes of the parameters.
    pub model: ModelConfig,
    /// Weights of the losses.
    pub loss: LossConfig,
    /// Optimiser, schedules, files.
    pub train: TrainConfig,
    /// Samples.
    pub data: DataConfig,
}

/// The preset of a run that names none.
pub const DEFAULT_PRESET: &str = "m2ae-small";

impl Default for RunConfig {
    fn default() -> Self {
        Self::new(m2ae_small())
    }
}

impl RunConfig {
    /// A run of `model` with everything else as the defaults say.
    #[must_use]
    pub fn new(model: ModelConfig) -> Self {
        Self { model, loss: LossConfig::default(), train: TrainConfig::default(), data: DataConfig::default() }
    }

    /// Checks every section.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first field that does not fit.
    pub fn validate(&self) -> Result<()> {
        self.model.validate()?;
        self.loss.validate()?;
        self.train.validate()?;
        self.data.validate()
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
