//! Norm, clipping, loss scale and skipping of one training step, decided on the device.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance};
use crate::shape::DType;
use crate::tensor::Tensor;

/// Squared norm to multiplier, skip flag and loss scale: formulas in the shader.
pub static KERNEL: Kernel = Kernel {
    name: "step_control",
    source: include_str!("../../shaders/step_control.wgsl"),
    parts: &[Part::Grid, Part::Rows, Part::Reduce],
    bindings: &[Binding::f32("partials"), Binding::u32_mut("control"), Binding::f32_mut("loss_scale")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
    dynamic: u32,
    clip: f32,
    beta1: f32,
    beta2: f32,
    micro_batches: f32,
}

/// Words of the control block, and of the schedule block that the host uploads beside it.
pub const WORDS: usize = 16;

/// The loss scale of a run that stores halves, at its first step.
pub const FIRST_SCALE: f32 = 32768.0;
const LARGEST_SCALE: f32 = 16_777_216.0;
const GROWTH_INTERVAL: u32 = 200;

/// What the control block says, on the host.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Control {
    /// Factor of the loss in the next backward pass.
    pub loss_scale: f32,
    /// Steps without an overflow since the scale moved.
    pub good_steps: u32,
    /// Updates made: k.
    pub updates: u32,
    /// `beta1^k`, a running product.
    pub power1: f32,
    /// `beta2^k`, a running product.
    pub power2: f32,
    /// Whether the last step was skipped.
    pub skip: bool,
    /// Norm of the last gradient, loss scale divided out; not finite when it was skipped.
    pub norm: f32,
    /// Factor of every gradient element in the last step; 0 when it was skipped.
    pub multiplier: f32,
    /// Steps skipped so far.
    pub skipped: u32,
    /// `1 - beta1^k`.
    pub rest1: f32,
    /// `1 - beta2^k`.
    pub rest2: f32,
}

impl Control {
    /// Before the first step.
    #[must_use]
    pub const fn new(loss_scale: f32) -> Self {
        Self {
            loss_scale,
            good_steps: 0,
            updates: 0,
            power1: 1.0,
            power2: 1.0,
            skip: false,
            norm: 0.0,
            multiplier: 0.0,
            skipped: 0,
            rest1: 0.0,
            rest2: 0.0,
        }
    }

    /// The block as it lies on the device: integers as they are, floats as their bits.
    #[must_use]
    pub fn to_words(&self) -> [u32; WORDS] {
        [
            self.loss_scale.to_bits(),
            self.good_steps,
            self.updates,
            self.power1.to_bits(),
            self.power2.to_bits(),
            u32::from(self.skip),
            self.norm.to_bits(),
            self.multiplier.to_bits(),
            self.skipped,
            self.rest1.to_bits(),
            self.rest2.to_bits(),
            0,
            0,
            0,
            0,
            0,
        ]
    }

    /// Reads the block.
    #[must_use]
    pub const fn from_words(words: &[u32; WORDS]) -> Self {
        Self {
            loss_scale: f32::from_bits(words[0]),
            good_steps: words[1],
            updates: words[2],
            power1: f32::from_bits(words[3]),
            power2: f32::from_bits(words[4]),
            skip: words[5] != 0,
            norm: f32::from_bits(words[6]),
            multiplier: f32::from_bits(words[7]),
            skipped: words[8],
            rest1: f32::from_bits(words[9]),
            rest2: f32::from_bits(words[10]),
        }
    }
}

/// What stays the same from step to step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rules {
    /// Largest norm; 0 switches clipping off.
    pub clip: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Whether the loss scale moves (f16 storage).
    pub dynamic: bool,
    /// Gradients added up before an update, which uses their mean.
    pub micro_batches: usize,
}

/// Decides one step. `partials` (a multiple of 4) f32, all the sums of squares; `control` (16) u32, updated; `loss_scale` ()
/// f32, written: the scale of the next step.
///
/// # Errors
/// [`Error::Shape`] when a tensor has another shape.
pub fn launch(ctx: &Context, partials: &Tensor, control: &Tensor, loss_scale: &Tensor, rules: &Rules) -> Result<()> {
    check_block("step_control", control)?;
    if loss_scale.shape().rank() != 0 {
        return Err(Error::shape("step_control", "loss_scale ()", loss_scale.shape()));
    }
    let params = Params {
        cells: (partials.shape().stored() / 4) as u32,
        dynamic: u32::from(rules.dynamic),
        clip: rules.clip as f32,
        beta1: rules.beta1 as f32,
        beta2: rules.beta2 as f32,
        micro_batches: rules.micro_batches as f32,
    };
    Launch::new(&KERNEL)
        .tensors(&[partials, control, loss_scale])
        .params(&params)
        .groups(1)
        .flops(partials.shape().elements() as f64)
        .run(ctx)
}

/// Refuses anything but a block of 16 words.
pub(super) fn check_block(operation: &'static str, block: &Tensor) -> Result<()> {
    if block.shape().dims() == [WORDS] {
        return Ok(());
    }
    Err(Error::shape(operation, format!("control and schedule ({WORDS})"), block.shape()))
}

/// The words of a block as an array; missing ones are 0.
pub(crate) fn block(words: &[u32]) -> [u32; WORDS] {
    std::array::from_fn(|i| words.get(i).copied().unwrap_or_default())
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let mut c = Control::from_words(&block(&t.u32(1)));
    let squares: f64 = t.f32(0).iter().map(|v| f64::from(*v)).sum();
    let divisor = f64::from(c.loss_scale) * f64::from(p.micro_batches);
    c.norm = (squares.sqrt() / divisor) as f32;
    c.skip = !c.norm.is_finite();
    if c.skip {
        (c.multiplier, c.good_steps, c.skipped) = (0.0, 0, c.skipped + 1);
        if p.dynamic == 1 {
            c.loss_scale = (c.loss_scale / 2.0).max(f32::MIN_POSITIVE);
        }
    } else {
        let shrink = if p.clip > 0.0 { (f64::from(p.clip) / (f64::from(c.norm) + 1e-6)).min(1.0) } else { 1.0 };
        c.multiplier = (shrink / divisor) as f32;
        c.updates += 1;
        (c.power1, c.power2) = (c.power1 * p.beta1, c.power2 * p.beta2);
        (c.rest1, c.rest2) = (1.0 - c.power1, 1.0 - c.power2);
        c.good_steps += 1;
        if p.dynamic == 1 && c.good_steps == GROWTH_INTERVAL {
            (c.loss_scale, c.good_steps) = ((c.loss_scale * 2.0).min(LARGEST_SCALE), 0);
        }
    }
    t.put_u32(1, &c.to_words());
    t.put_f32(2, vec![c.loss_scale, 0.0, 0.0, 0.0]);
    Ok(())
}

/// The block as numbers, so that it can be compared with a tolerance; a norm that is not finite becomes -1.
fn readable(ctx: &Context, control: &Tensor) -> Result<Tensor> {
    let c = Control::from_words(&block(&control.to_u32()?));
    let norm = if c.norm.is_finite() { c.norm } else { -1.0 };
    let counts = [c.good_steps, c.updates, u32::from(c.skip), c.skipped].map(|count| count as f32);
    // Clipped multipliers of a large loss scale are tiny: shown beside the others in units of the scale.
    let multiplier = c.multiplier * c.loss_scale;
    let floats = [c.loss_scale.log2(), c.power1, c.power2, norm, multiplier, c.rest1, c.rest2];
    Tensor::from_f32(ctx, &[11], &[&counts[..], &floats].concat(), DType::F32)
}

/// Clipped and not, clipping off, every edge of the loss scale, an infinity and a NaN among the sums.
pub fn cases() -> Vec<Case> {
    let half = Control { good_steps: 7, updates: 3, power1: 0.729, power2: 0.857, skipped: 2, ..Control::new(32768.0) };
    let single = Control { loss_scale: 1.0, ..half };
    let tail = |good_steps, loss_scale| Control { good_steps, loss_scale, ..half };
    let table = [
        ("below the clip", 4, 1e-3, 1.0, false, single),
        ("above the clip", 300, 0.5, 1.0, false, single),
        ("no clipping", 300, 0.5, 0.0, false, single),
        ("no gradient", 64, 0.0, 1.0, false, single),
        ("with a loss scale", 1024, 9e7, 1.0, true, half),
        ("199 good steps", 64, 1.0, 1.0, true, tail(198, 32768.0)),
        ("200 good steps", 64, 1.0, 1.0, true, tail(199, 32768.0)),
        ("200 good steps at the top", 64, 1.0, 1.0, true, tail(199, LARGEST_SCALE)),
        ("infinite", 64, f32::INFINITY, 1.0, true, tail(199, 32768.0)),
        ("NaN", 300, f32::NAN, 1.0, true, half),
        ("infinite, fixed scale", 300, f32::INFINITY, 1.0, false, single),
        ("infinite at the bottom", 4, f32::INFINITY, 1.0, true, tail(0, f32::MIN_POSITIVE)),
    ];
    table
        .into_iter()
        .map(|(name, count, last, clip, dynamic, before)| {
            Case::new(name, Tolerance::sum(count), move |ctx, _| {
                let mut sums: Vec<f32> = (0..count).map(|i| (i % 7) as f32 * last * 0.125).collect();
                if let Some(end) = sums.last_mut() {
                    *end = last;
                }
                let partials = Tensor::from_f32(ctx, &[count], &finite_but_last(sums), DType::F32)?;
                let control = Tensor::from_u32(ctx, &[WORDS], &before.to_words())?;
                let loss_scale = Tensor::empty(ctx, &[], DType::F32)?;
                let rules = Rules { clip, beta1: 0.9, beta2: 0.95, dynamic, micro_batches: 3 };
                launch(ctx, &partials, &control, &loss_scale, &rules)?;
                Ok(vec![readable(ctx, &control)?, loss_scale])
            })
        })
        .collect()
}

/// One bad sum is enough: all the others are made good.
fn finite_but_last(mut sums: Vec<f32>) -> Vec<f32> {
    let end = sums.len().saturating_sub(1);
    sums.iter_mut().take(end).filter(|sum| !sum.is_finite()).for_each(|sum| *sum = 1.0);
    sums
}

/// Wrong texts that a case must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "sqrt(squares) / (scale * p.micro_batches)", replace: "sqrt(squares) / scale" },
    Fault { find: "min(1.0, p.clip / (norm + 1e-6))", replace: "p.clip / (norm + 1e-6)" },
    Fault { find: "good >= GROWTH_INTERVAL", replace: "good > GROWTH_INTERVAL" },
    Fault { find: "min(scale * 2.0, LARGEST_SCALE)", replace: "scale * 2.0" },
    Fault { find: "control[SKIPPED] + 1u", replace: "control[SKIPPED]" },
    Fault { find: "control[GOOD_STEPS] = 0u", replace: "control[GOOD_STEPS] = 1u" },
    Fault { find: "1.0 - power2", replace: "1.0 - power1" },
    Fault { find: "cell = lid; cell < p.cells", replace: "cell = lid; cell + 1u < p.cells" },
];
