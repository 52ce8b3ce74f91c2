//! AdamW over a whole parameter set: norm, clipping, loss scale, update, bounds and moving averages in at most a handful of
//! launches, with nothing read back.

use super::averages::{self, Run};
use crate::device::Context;
use crate::error::{Error, Result};
use crate::kernels::adamw::{Buffers, Hyper};
use crate::kernels::step_control::{Control, FIRST_SCALE, Rules, WORDS};
use crate::kernels::{adamw, clamp, ema, step_control, sum_squares};
use crate::nn::{Param, ParamSet, Section, State, Stretch};
use crate::shape::DType;
use crate::tensor::Tensor;

/// Constants of the optimiser; defaults as in the model's specification.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamWConfig {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Decoupled decay of the weights that are specified to decay.
    pub weight_decay: f64,
    /// Largest norm of all gradients together; 0 switches clipping off.
    pub clip: f64,
    /// Whether the loss is scaled so that gradients fit halves: 2^15 at first, halved on overflow, doubled after 200 good
    /// steps in a row, up to 2^24. Else the scale is 1.
    pub dynamic_loss_scale: bool,
    /// Backward passes whose gradients are added up before each update, which uses their mean.
    pub micro_batches: usize,
}

impl Default for AdamWConfig {
    fn default() -> Self {
        Self {
            beta1: 0.9,
            beta2: 0.95,
            eps: 1e-8,
            weight_decay: 0.05,
            clip: 1.0,
            dynamic_loss_scale: false,
            micro_batches: 1,
        }
    }
}

impl AdamWConfig {
    fn check(&self) -> Result<()> {
        let unit = |x: f64| (0.0..1.0).contains(&x);
        let cases = [
            ("train.beta1", unit(self.beta1), "must be at least 0 and below 1"),
            ("train.beta2", unit(self.beta2), "must be at least 0 and below 1"),
            ("train.eps", self.eps >= f64::from(f32::MIN_POSITIVE), "must be above 0 in f32"),
            ("train.weight_decay", self.weight_decay >= 0.0, "must be at least 0"),
            ("train.clip", self.clip >= 0.0, "must be at least 0; 0 switches clipping off"),
            ("train.micro_batches", self.micro_batches > 0, "must be at least 1"),
        ];
        let wrong = cases.into_iter().find(|(_, holds, _)| !holds);
        wrong.map_or(Ok(()), |(field, _, reason)| Err(Error::config(field, reason)))
    }
}

/// What changes from step to step: the block that the host uploads before each step. Kernels that draw random numbers read
/// its first words, the optimiser the others.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct StepInputs {
    /// Seed of the run.
    pub seed: u64,
    /// Number of the step.
    pub step: u32,
    /// Learning rate.
    pub lr: f64,
    /// Decay of the moving averages.
    pub ema: f64,
}

impl StepInputs {
    /// The block as it lies on the device, a tensor (16) u32: seed low and high, step, then the bits of f32.
    #[must_use]
    pub fn to_words(&self) -> [u32; WORDS] {
        let mut words = [0; WORDS];
        let used = [
            self.seed as u32,
            (self.seed >> 32) as u32,
            self.step,
            (self.lr as f32).to_bits(),
            (self.ema as f32).to_bits(),
        ];
        words.iter_mut().zip(used).for_each(|(word, value)| *word = value);
        words
    }

    /// A tensor (16) u32 to upload blocks into.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`].
    pub fn tensor(&self, context: &Context) -> Result<Tensor> {
        Tensor::from_u32(context, &[WORDS], &self.to_words())
    }
}

struct Trained {
    values: Tensor,
    halves: Option<Tensor>,
    state: State,
    partials: Tensor,
    hyper: Hyper,
}

/// AdamW (Loshchilov and Hutter 2019) with all its state on the device.
pub struct AdamW {
    context: Context,
    rules: Rules,
    trained: Vec<Trained>,
    bounds: Vec<(Param, (f32, f32))>,
    averages: Vec<Run>,
    partials: Tensor,
    control: Tensor,
    loss_scale: Tensor,
}

impl AdamW {
    /// An optimiser of the trained parameters. `bounds`: parameters held between two values after each update; a frozen one
    /// is left alone. `averages`: pairs (average, source) of names, moved after that.
    ///
    /// # Errors
    /// [`Error::Config`] for a constant out of range, an unknown name, a pair that does not fit, or when nothing is trained.
    pub fn new(
        params: &ParamSet,
        config: &AdamWConfig,
        bounds: &[(&str, f32, f32)],
        averages: &[(String, String)],
    ) -> Result<Self> {
        config.check()?;
        let context = params.context().clone();
        let stretches: Vec<Stretch> = params.stretches()?.into_iter().filter(|s| s.section.is_trained()).collect();
        if stretches.is_empty() {
            return Err(Error::config("train.freeze", "every parameter is frozen; nothing is left to train"));
        }
        let count = |s: &Stretch| sum_squares::partials(s.values.shape().elements());
        let partials = Tensor::empty(&context, &[stretches.iter().map(count).sum()], DType::F32)?;
        let mut trained = Vec::with_capacity(stretches.len());
        let mut offset = 0;
        for stretch in stretches {
            let window = partials.window(offset, &[count(&stretch)])?;
            offset += count(&stretch);
            let Stretch { section, values, halves, state } = stretch;
            let Some(state) = state else { continue };
            let decay = if section == Section::Decayed { config.weight_decay } else { 0.0 };
            let hyper = Hyper { beta1: config.beta1, beta2: config.beta2, eps: config.eps, decay };
            trained.push(Trained { values, halves, state, partials: window, hyper });
        }
        let mut held = Vec::with_capacity(bounds.len());
        for (name, low, high) in bounds {
            held.push((params.get(name)?.clone(), (*low, *high)));
        }
        held.retain(|(param, _)| param.is_trained());
        let rules = Rules {
            clip: config.clip,
            beta1: config.beta1,
            beta2: config.beta2,
            dynamic: config.dynamic_loss_scale,
            micro_batches: config.micro_batches,
        };
        let first = Control::new(if config.dynamic_loss_scale { FIRST_SCALE } else { 1.0 });
        Ok(Self {
            rules,
            trained,
            bounds: held,
            averages: averages::runs(params, averages)?,
            partials,
            control: Tensor::from_u32(&context, &[WORDS], &first.to_words())?,
            loss_scale: Tensor::from_f32(&context, &[], &[first.loss_scale], DType::F32)?,
            context,
        })
    }

    /// The factor of the loss in the next backward pass, () f32: the gradient with which that pass begins.
    #[must_use]
    pub const fn loss_scale(&self) -> &Tensor {
        &self.loss_scale
    }

    /// One update with the gradients added up since they were cleared. `schedule` (16) u32 holds [`StepInputs`]. When a
    /// gradient is not finite nothing changes but the loss scale and the counts. Nothing is read back.
    ///
    /// # Errors
    /// What a launch reports.
    pub fn step(&self, schedule: &Tensor) -> Result<()> {
        let (ctx, control) = (&self.context, &self.control);
        for part in &self.trained {
            sum_squares::launch(ctx, &part.state.grad, &part.partials)?;
        }
        step_control::launch(ctx, &self.partials, control, &self.loss_scale, &self.rules)?;
        for part in &self.trained {
            let State { grad, m, v } = &part.state;
            let on = Buffers { grad, weight: &part.values, m, v, working: part.halves.as_ref() };
            adamw::launch(ctx, control, schedule, &on, &part.hyper)?;
        }
        for (param, bounds) in &self.bounds {
            let copy = (param.working.dtype() == DType::F16).then_some(&param.working);
            clamp::launch(ctx, control, &param.value, copy, *bounds)?;
        }
        for Run { average, source } in &self.averages {
            ema::launch(ctx, control, schedule, &source.values, &average.values, average.halves.as_ref())?;
        }
        Ok(())
    }

    /// What the last step decided: norm, skip, loss scale, counts. Waits for the device.
    ///
    /// # Errors
    /// What the device reports.
    pub fn control(&self) -> Result<Control> {
        Ok(Control::from_words(&step_control::block(&self.control.to_u32()?)))
    }

    /// Where the last step's decisions lie on the device, (16) u32; [`Control::from_words`] reads them.
    #[must_use]
    pub const fn control_block(&self) -> &Tensor {
        &self.control
    }

    /// The control block as words, for a checkpoint; the moments are the parameter set's.
    ///
    /// # Errors
    /// What the device reports.
    pub fn state(&self) -> Result<Vec<u32>> {
        self.control.to_u32()
    }

    /// Puts back what [`AdamW::state`] gave.
    ///
    /// # Errors
    /// [`Error::Shape`] when it does not have 16 words, [`Error::Check`] when its loss scale is none.
    pub fn set_state(&self, words: &[u32]) -> Result<()> {
        let scale = Control::from_words(&step_control::block(words)).loss_scale;
        if !(scale.is_finite() && scale > 0.0) {
            let detail = format!("the loss scale is {scale}, expected a positive number");
            return Err(Error::Check { what: "optimiser state".to_owned(), detail });
        }
        self.control.write_u32(words)?;
        self.loss_scale.write_f32(&[scale])
    }
}
