//! One training step, and the state around it: model, optimiser, schedules, random state.

use std::collections::BTreeMap;

use crate::data::Batch;
use crate::device::philox::{philox, uniform4};
use crate::device::{Context, Pending, Recording};
use crate::error::{Error, Result};
use crate::kernels::{permutation_mask, step_control};
use crate::model::inputs::{HostBatch, Inputs};
use crate::model::m2ae::{Build, Losses, M2ae};
use crate::model::params::target_pairs;
use crate::optim::{AdamW, AdamWConfig, Control, StepInputs};
use crate::shape::DType;
use crate::tape::{Tape, Written};
use crate::tensor::Tensor;

use super::checkpoint::{Checkpoint, Expected, Named, Position, State};
use super::config::{Precision, RunConfig};
use super::prepared::{Prepared, Preparer};

/// Philox streams of a run; initial weights have their own.
mod stream {
    /// Masks of the context pass, one for each micro-batch.
    pub const MASK: u64 = 1 << 32;
    /// Which modality is hidden, drawn on the host.
    pub const HIDE: u32 = 2;
}

/// Bounds of the scale of the logits: [0, ln 100].
const LOGIT_SCALE: (f32, f32) = (0.0, 4.605_170_2);

/// A model in training.
pub struct Trainer {
    /// The model.
    pub model: M2ae,
    /// What the run was told. A recorded step depends on it, so nothing but [`Trainer::set_batch`] changes it.
    config: RunConfig,
    optimizer: AdamW,
    /// Seed, step number, rates: the one small buffer that changes from step to step.
    schedule: Tensor,
    losses: Option<Losses<Tensor>>,
    /// Room for a batch, filled anew for every step.
    inputs: Option<Inputs>,
    recording: Option<Recording>,
    /// A step has run, so that the pool holds what the next one takes.
    warm: bool,
    replay: bool,
    step: u64,
}

impl Trainer {
    /// A model with initial weights, before its first step.
    ///
    /// # Errors
    /// `Error::Config`, `Error::Limit`, `Error::OutOfMemory`.
    pub fn new(ctx: &Context, config: &RunConfig) -> Result<Self> {
        config.validate()?;
        let t = &config.train;
        let precision = match t.precision {
            Precision::F32 => DType::F32,
            Precision::F16 => DType::F16,
        };
        let build = Build { precision, seed: t.seed, freeze: t.freeze.clone(), checkpoint_blocks: t.checkpoint_blocks };
        let model = M2ae::new(ctx, &config.model, &config.loss, &build)?;
        let settings = AdamWConfig {
            beta1: t.beta1,
            beta2: t.beta2,
            eps: t.eps,
            weight_decay: t.weight_decay,
            clip: t.clip,
            dynamic_loss_scale: precision == DType::F16,
            micro_batches: t.micro_batches,
        };
        let bounds = [("align.logit_scale", LOGIT_SCALE.0, LOGIT_SCALE.1)];
        let optimizer = AdamW::new(&model.params, &settings, &bounds, &target_pairs(&config.model))?;
        let schedule = StepInputs::default().tensor(ctx)?;
        Ok(Self {
            model,
            config: config.clone(),
            optimizer,
            schedule,
            losses: None,
            inputs: None,
            recording: None,
            warm: false,
            replay: true,
            step: 0,
        })
    }

    /// What the run was told.
    #[must_use]
    pub const fn config(&self) -> &RunConfig {
        &self.config
    }

    /// Takes `batch` samples in each micro-batch from the next step on. The recorded step and the room for its samples go, being
    /// of the old size, and so do the losses. Batches prepared before are refused.
    ///
    /// # Errors
    /// `Error::Config` for a size out of range; nothing has changed then.
    pub fn set_batch(&mut self, batch: usize) -> Result<()> {
        let mut config = self.config.clone();
        config.train.batch = batch;
        config.validate()?;
        self.config = config;
        self.forget_recording();
        (self.inputs, self.losses) = (None, None);
        Ok(())
    }

    /// Steps done.
    #[must_use]
    pub const fn step_number(&self) -> u64 {
        self.step
    }

    /// The device.
    #[must_use]
    pub const fn context(&self) -> &Context {
        self.model.context()
    }

    /// Samples that one step takes: batch times micro-batches.
    #[must_use]
    pub const fn samples_per_step(&self) -> usize {
        self.config.train.batch * self.config.train.micro_batches
    }

    /// What makes batches ready for [`Trainer::step_prepared`].
    #[must_use]
    pub fn preparer(&self) -> Preparer {
        Preparer::new(self.context(), &self.config, self.model.precision)
    }

    /// One update from `batch` (exactly [`Trainer::samples_per_step`] samples), made ready here: [`Trainer::step_prepared`].
    ///
    /// # Errors
    /// `Error::Shape` when the batch does not fit, `Error::NotFinite` for an image that holds NaN, else what the device
    /// reports.
    pub fn step(&mut self, batch: &Batch) -> Result<()> {
        let prepared = self.preparer().prepare(batch)?;
        self.step_prepared(prepared)
    }

    /// One update. Nothing is read back. The second step is recorded, and from the third on the recording is replayed: the
    /// same launches on the same buffers, so the same bytes.
    ///
    /// # Errors
    /// `Error::Shape` when the batch was made for another trainer, else what the device reports.
    pub fn step_prepared(&mut self, batch: Prepared) -> Result<()> {
        batch.check(&self.config)?;
        let mut batch = batch;
        let ctx = self.context().clone();
        if let Some(recording) = self.recording.take() {
            for micro in 0..recording.segments() {
                self.feed(&mut batch, micro)?;
                ctx.replay(&recording, micro)?;
            }
            self.recording = Some(recording);
        } else if self.warm && self.replay {
            self.recording = ctx.record(|| self.launch(Some(&mut batch)))?.1;
        } else {
            self.launch(Some(&mut batch))?;
            self.warm = true;
        }
        self.step += 1;
        ctx.submit()
    }

    /// Whether steps may be replayed (they are, unless told otherwise). Switching it off lets go of the recording.
    pub fn set_replay(&mut self, replay: bool) {
        self.replay = replay;
        self.forget_recording();
    }

    /// Lets go of the recorded step and its memory; the next step but one is recorded anew.
    pub fn forget_recording(&mut self) {
        (self.recording, self.warm) = (None, false);
    }

    /// One update from a batch that is never filled: what a dry run counts, so that nothing large lies on the host.
    ///
    /// # Errors
    /// `Error::Limit`, `Error::OutOfMemory`.
    pub fn step_dry(&mut self) -> Result<()> {
        self.launch(None)?;
        self.step += 1;
        self.context().submit()
    }

    /// One update from inputs that are already on the device: for verification and benchmarks.
    ///
    /// # Errors
    /// What the device reports.
    pub fn step_on(&mut self, inputs: &Inputs) -> Result<()> {
        self.begin()?;
        self.accumulate(inputs, true)?;
        self.optimizer.step(&self.schedule)?;
        self.step += 1;
        self.context().submit()
    }

    /// Runs the tape of every micro-batch and the update.
    fn launch(&mut self, mut batch: Option<&mut Prepared>) -> Result<()> {
        let (ctx, samples) = (self.context().clone(), self.config.train.batch);
        for micro in 0..self.config.train.micro_batches {
            ctx.unrecorded(|| batch.as_deref_mut().map_or(Ok(()), |batch| self.feed(batch, micro)))?;
            let masked = self.mask(samples, micro)?;
            let inputs = match self.inputs.take() {
                Some(inputs) => Inputs { masked, ..inputs },
                None => Inputs::empty(&ctx, &self.config.model, samples, masked, self.model.precision)?,
            };
            let result = self.accumulate(&inputs, micro == 0);
            self.inputs = Some(inputs);
            result?;
        }
        self.optimizer.step(&self.schedule)
    }

    /// Hands over what changes from step to step: before the first micro-batch the rates and seeds, before each its samples.
    fn feed(&mut self, batch: &mut Prepared, micro: usize) -> Result<()> {
        if micro == 0 {
            self.begin()?;
        }
        let (show_image, show_text) = self.shown(batch);
        let (samples, length) = (self.config.train.batch, self.config.model.text_length);
        let rows = micro * samples..(micro + 1) * samples;
        let host = HostBatch {
            image: &[],
            tokens: &batch.tokens[rows.start * length..rows.end * length],
            has_image: &batch.has_image[rows.clone()],
            has_text: &batch.has_text[rows.clone()],
            show_image: &show_image[rows.clone()],
            show_text: &show_text[rows.clone()],
        };
        if self.inputs.is_none() {
            let none = Tensor::empty(self.context(), &[1], DType::F32)?;
            let inputs = Inputs::empty(self.context(), &self.config.model, samples, none, self.model.precision)?;
            self.inputs = Some(inputs);
        }
        let image = batch.images[micro].take();
        let (Some(inputs), Some(image)) = (&self.inputs, image) else { return Ok(()) };
        inputs.write_staged(&self.config.model, &host, image)
    }

    /// Uploads the rates and seeds of the next step.
    fn begin(&self) -> Result<()> {
        let (t, step) = (&self.config.train, self.step + 1);
        let rates = StepInputs { seed: t.seed, step: step as u32, lr: t.lr(step), ema: t.ema(step) };
        self.schedule.write_u32(&rates.to_words())
    }

    /// Forward and backward; `first`: what stands in the places of gradients does not count.
    fn accumulate(&mut self, inputs: &Inputs, first: bool) -> Result<()> {
        let ctx = self.context();
        let written = Written::default();
        let mut tape = if first { Tape::overwriting(ctx, &written) } else { Tape::new(ctx) };
        let losses = self.model.forward(&mut tape, inputs)?.losses;
        tape.backward(&losses.total, self.optimizer.loss_scale())?;
        if first {
            self.model.params.zero_gradients_but(&written)?;
        }
        let keep = |v: &crate::tape::Var| v.value().clone();
        self.losses = Some(Losses {
            recon_image: keep(&losses.recon_image),
            recon_text: keep(&losses.recon_text),
            jepa: keep(&losses.jepa),
            align: keep(&losses.align),
            total: keep(&losses.total),
        });
        Ok(())
    }

    /// Random masks (B, N) with an exact count in every row.
    fn mask(&self, samples: usize, micro: usize) -> Result<Tensor> {
        let model = &self.config.model;
        let count = model.masked(self.config.loss.mask_ratio);
        let stream = stream::MASK + micro as u64;
        permutation_mask::launch(self.context(), [samples, model.tokens()], count, &self.schedule, stream)
    }

    /// Which images and captions the encoders see: one of the two is hidden now and then from samples that have both.
    fn shown(&self, batch: &Prepared) -> (Vec<bool>, Vec<bool>) {
        let t = &self.config.train;
        let key = [t.seed as u32, (t.seed >> 32) as u32];
        let hide = |b: usize| {
            let draw = f64::from(uniform4(philox([b as u32, stream::HIDE, self.step as u32 + 1, 0], key))[0]);
            if !(batch.has_image[b] && batch.has_text[b]) || draw >= t.hide_image + t.hide_text {
                (true, true)
            } else {
                (draw >= t.hide_image, draw < t.hide_image)
            }
        };
        (0..batch.has_image.len()).map(hide).unzip()
    }

    /// The losses of the last step's last micro-batch. Waits for the device.
    ///
    /// # Errors
    /// `Error::Check` before the first step, else what the device reports.
    pub fn losses(&self) -> Result<Losses<f32>> {
        Ok(Self::read(&self.look()?.wait()?).0)
    }

    /// Begins to read the losses and the optimiser's decisions of the last step, without waiting for it.
    ///
    /// # Errors
    /// As [`Trainer::losses`].
    pub fn look(&self) -> Result<Pending> {
        let Some(l) = &self.losses else {
            return Err(Error::Check { what: "reading the losses".into(), detail: "no step has been made".into() });
        };
        let all = [&l.recon_image, &l.recon_text, &l.jepa, &l.align, &l.total].map(|t| &**t);
        let [image, text, jepa, align, total] = all;
        self.context().read_later(&[image, text, jepa, align, total, self.optimizer.control_block()])
    }

    /// What [`Trainer::look`] has found: the losses, and what the optimiser decided.
    #[must_use]
    pub fn read(bytes: &[Vec<u8>]) -> (Losses<f32>, Control) {
        let value = |i: usize| {
            let first = bytes.get(i).and_then(|b| b.first_chunk::<4>());
            first.map_or(f32::NAN, |b| f32::from_le_bytes(*b))
        };
        let losses =
            Losses { recon_image: value(0), recon_text: value(1), jepa: value(2), align: value(3), total: value(4) };
        let words: Vec<u32> = bytes.get(5).map_or_else(Vec::new, |b| bytemuck::pod_collect_to_vec(b));
        (losses, Control::from_words(&step_control::block(&words)))
    }

    /// Gradient norm, loss scale, skipped steps. Waits for the device.
    ///
    /// # Errors
    /// What the device reports.
    pub fn control(&self) -> Result<Control> {
        self.optimizer.control()
    }

    /// Everything that resuming needs. Waits for the device.
    ///
    /// # Errors
    /// What the device reports.
    pub fn checkpoint(&self, position: Position, versions: &BTreeMap<String, String>) -> Result<Checkpoint> {
        let named = |(name, shape, data): (String, Vec<usize>, Vec<f32>)| Named { name, shape, data };
        let control = self.optimizer.state()?;
        let state = State {
            step: self.step,
            seed: self.config.train.seed,
            loss_scale: Control::from_words(&step_control::block(&control)).loss_scale,
            control,
            position,
            config: self.config.clone(),
            versions: versions.clone(),
        };
        let model = self.model.params.read()?.into_iter().map(named).collect();
        let optimizer = self.model.params.read_moments()?.into_iter().map(named).collect();
        Ok(Checkpoint { state, model, optimizer })
    }

    /// Puts back what [`Trainer::checkpoint`] gave.
    ///
    /// # Errors
    /// `Error::Shape` when a tensor does not fit, else what the device reports.
    pub fn restore(&mut self, checkpoint: Checkpoint) -> Result<()> {
        let entry = |n: Named| (n.name, n.shape, n.data);
        self.model.params.load(&checkpoint.model.into_iter().map(entry).collect::<Vec<_>>())?;
        self.model.params.load_moments(&checkpoint.optimizer.into_iter().map(entry).collect::<Vec<_>>())?;
        self.optimizer.set_state(&checkpoint.state.control)?;
        self.step = checkpoint.state.step;
        Ok(())
    }
}

/// Names and shapes in `model.safetensors` and `optimizer.safetensors` of a run with this configuration.
#[must_use]
pub fn expected(config: &RunConfig) -> (Vec<Expected>, Vec<Expected>) {
    let specs = crate::model::params::specs(&config.model, &config.train.freeze);
    let model = specs.iter().map(|s| (s.name.clone(), s.dims.clone())).collect();
    let moments = ["m", "v"].into_iter().flat_map(|moment| {
        specs.iter().filter(|s| s.trainable).map(move |s| (format!("{moment}.{}", s.name), s.dims.clone()))
    });
    (model, moments.collect())
}
