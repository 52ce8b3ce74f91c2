//! AdamW: one update of weights and moments, in place.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::step_control::{Control, WORDS, block, check_block};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// Adam with decoupled weight decay (Loshchilov and Hutter 2019): formulas in the shader.
pub static KERNEL: Kernel = Kernel {
    name: "adamw",
    source: include_str!("../../shaders/adamw.wgsl"),
    parts: &[Part::Grid],
    bindings: &[
        Binding::u32("control"),
        Binding::u32("schedule"),
        Binding::f32("grad"),
        Binding::f32_mut("weight"),
        Binding::f32_mut("m"),
        Binding::f32_mut("v"),
        Binding::stored_mut("working"),
    ],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
    beta1: f32,
    beta2: f32,
    rest1: f32,
    rest2: f32,
    eps: f32,
    decay: f32,
}

/// Invocations of a workgroup and cells of each. Processors that play GPU run eight invocations at a time to their end: wider
/// workgroups would walk the arenas in strides, which neither caches nor the words that all invocations read forgive.
/// (Measured there: 8 x 32 takes a third of the time of 256 x 8.)
pub(super) fn sweep(ctx: &Context) -> (usize, usize) {
    if ctx.capabilities().software { (8, 32) } else { (256, 1) }
}

/// Constants of the update.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hyper {
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment; above 0, since padding is 0 / (0 + eps).
    pub eps: f64,
    /// Decoupled weight decay; 0 for none.
    pub decay: f64,
}

/// What one launch works on: all of one shape, f32; `working` is the f16 copy of `weight`, where there is one.
#[derive(Clone, Copy)]
pub struct Buffers<'a> {
    /// Sum of the gradients, loss scale included.
    pub grad: &'a Tensor,
    /// Weights, updated.
    pub weight: &'a Tensor,
    /// First moment, updated.
    pub m: &'a Tensor,
    /// Second moment, updated.
    pub v: &'a Tensor,
    /// Copy of the weights that the model reads, written.
    pub working: Option<&'a Tensor>,
}

/// One update. `control` (16) and `schedule` (16) u32 hold what changes from step to step; nothing happens when `control`
/// says skip.
///
/// # Errors
/// [`Error::Shape`] when shapes differ or a block does not have 16 words.
pub fn launch(ctx: &Context, control: &Tensor, schedule: &Tensor, on: &Buffers<'_>, hyper: &Hyper) -> Result<()> {
    check_block("adamw", control)?;
    check_block("adamw", schedule)?;
    for other in [Some(on.grad), Some(on.m), Some(on.v), on.working].into_iter().flatten() {
        if other.shape() != on.weight.shape() {
            return Err(Error::shape("adamw", on.weight.shape(), other.shape()));
        }
    }
    let working_copy = stand_in(ctx, on.working)?;
    let cells = on.weight.shape().stored() / 4;
    let params = Params {
        cells: cells as u32,
        beta1: hyper.beta1 as f32,
        beta2: hyper.beta2 as f32,
        rest1: (1.0 - hyper.beta1) as f32,
        rest2: (1.0 - hyper.beta2) as f32,
        eps: hyper.eps as f32,
        decay: hyper.decay as f32,
    };
    let (workgroup, each) = sweep(ctx);
    Launch::new(&KERNEL)
        .tensors(&[control, schedule, on.grad, on.weight, on.m, on.v, &working_copy])
        .params(&params)
        .constant("WRITE_WORKING", on.working.is_some())
        .constant("WORKGROUP", workgroup as f64)
        .constant("CELLS", each as f64)
        .groups(cells.div_ceil(workgroup * each))
        .flops(15.0 * on.weight.shape().elements() as f64)
        .run(ctx)
}

/// The working copy, or one cell to bind in its place: every binding of a kernel needs a buffer.
pub(super) fn stand_in(ctx: &Context, working: Option<&Tensor>) -> Result<Tensor> {
    working.map_or_else(|| Tensor::empty(ctx, &[4], DType::F32), |tensor| Ok(tensor.clone()))
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let control = Control::from_words(&block(&t.u32(0)));
    if control.skip {
        return Ok(());
    }
    let rate = f64::from(f32::from_bits(block(&t.u32(1))[3]));
    let [beta1, beta2, rest1, rest2] = [p.beta1, p.beta2, p.rest1, p.rest2].map(f64::from);
    let (grad, mut weight, mut m, mut v) = (t.f32(2), t.f32(3), t.f32(4), t.f32(5));
    for (((w, m), v), g) in weight.iter_mut().zip(&mut m).zip(&mut v).zip(&grad) {
        let g = f64::from(*g) * f64::from(control.multiplier);
        let first = beta1 * f64::from(*m) + rest1 * g;
        let second = beta2 * f64::from(*v) + rest2 * g * g;
        let mean = first / f64::from(control.rest1);
        let root = (second / f64::from(control.rest2)).sqrt();
        let decayed = f64::from(*w) * (1.0 - rate * f64::from(p.decay));
        *w = (decayed - rate * mean / (root + f64::from(p.eps))) as f32;
        (*m, *v) = (first as f32, second as f32);
    }
    if t.flag("WRITE_WORKING") {
        t.put_f32(6, weight.clone());
    }
    t.put_f32(3, weight);
    t.put_f32(4, m);
    t.put_f32(5, v);
    Ok(())
}

/// A schedule block with a learning rate and a moving-average decay.
pub(super) fn sample_schedule(ctx: &Context, rate: f32, ema: f32) -> Result<Tensor> {
    Tensor::from_u32(ctx, &[WORDS], &block(&[1, 2, 3, rate.to_bits(), ema.to_bits()]))
}

/// Sizes around a cell and a workgroup; with and without decay, a working copy, a step to skip; the first update and a
/// later one. The rate is large so that every term shows.
pub fn cases() -> Vec<Case> {
    let first = Control { multiplier: 0.5, rest1: 0.1, rest2: 0.05, ..Control::new(1.0) };
    let later = Control { multiplier: 3e-5, rest1: 0.41, rest2: 0.23, ..Control::new(32768.0) };
    let skipped = Control { skip: true, multiplier: 0.0, ..later };
    let table = [
        ("first", 1, 0.0, false, first),
        ("decay", 7, 0.05, false, first),
        ("working copy", 1027, 0.0, true, first),
        ("later, decay, working copy", 9001, 0.05, true, later),
        ("skipped", 64, 0.05, true, skipped),
    ];
    table
        .into_iter()
        .map(|(name, n, decay, copy, control)| {
            Case::new(format!("{name} ({n})"), Tolerance { abs: 2e-6, rel: 4e-6 }, move |ctx, storage| {
                let dims = &[n][..];
                let grad = samples::normal(ctx, dims, DType::F32, 1)?;
                let weight = samples::normal(ctx, dims, DType::F32, 2)?;
                let m = samples::normal(ctx, dims, DType::F32, 3)?;
                // A second moment is a mean of squares, and 1 / sqrt of a tiny one would only measure the division.
                let squares =
                    samples::normal(ctx, dims, DType::F32, 4)?.to_f32()?.iter().map(|x| x * x + 0.1).collect();
                let v = Tensor::from_f32(ctx, dims, &Vec::from_iter::<Vec<f32>>(squares), DType::F32)?;
                let working = samples::normal(ctx, dims, storage, 5)?;
                let block = Tensor::from_u32(ctx, &[WORDS], &control.to_words())?;
                let schedule = sample_schedule(ctx, 0.1, 0.0)?;
                let on = Buffers { grad: &grad, weight: &weight, m: &m, v: &v, working: copy.then_some(&working) };
                launch(ctx, &block, &schedule, &on, &Hyper { beta1: 0.9, beta2: 0.95, eps: 1e-8, decay })?;
                Ok(vec![weight, m, v, working])
            })
        })
        .collect()
}

/// Wrong texts that a case must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "(1.0 - rate * p.decay)", replace: "1.0" },
    Fault { find: "p.rest2 * g * g", replace: "p.rest2 * g" },
    Fault { find: "first / rest1", replace: "first" },
    Fault { find: "control[REST2])", replace: "control[REST1])" },
    Fault { find: "floats(grad[cell]) * multiplier", replace: "floats(grad[cell])" },
    Fault { find: "|| control[SKIP] == 1u", replace: "" },
    Fault { find: "start + CELLS * WORKGROUP", replace: "start + WORKGROUP" },
    Fault { find: "working[cell] = pack4(updated)", replace: "working[cell] = pack4(decayed)" },
];
