//! Exponential moving average of weights: how the target encoder follows the trained one.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::adamw::{sample_schedule, stand_in, sweep};
use crate::kernels::step_control::{Control, WORDS, block, check_block};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `average = ema average + (1 - ema) source`.
pub static KERNEL: Kernel = Kernel {
    name: "ema",
    source: include_str!("../../shaders/ema.wgsl"),
    parts: &[Part::Grid],
    bindings: &[
        Binding::u32("control"),
        Binding::u32("schedule"),
        Binding::f32("source"),
        Binding::f32_mut("average"),
        Binding::stored_mut("working"),
    ],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
}

/// Moves `average` towards `source` (one shape, f32) by the decay in `schedule`, and copies it to `working` where there is
/// one. Nothing happens when `control` says skip.
///
/// # Errors
/// [`Error::Shape`] when shapes differ or a block does not have 16 words.
pub fn launch(
    ctx: &Context,
    control: &Tensor,
    schedule: &Tensor,
    source: &Tensor,
    average: &Tensor,
    working: Option<&Tensor>,
) -> Result<()> {
    check_block("ema", control)?;
    check_block("ema", schedule)?;
    for other in [Some(source), working].into_iter().flatten() {
        if other.shape() != average.shape() {
            return Err(Error::shape("ema", average.shape(), other.shape()));
        }
    }
    let working_copy = stand_in(ctx, working)?;
    let cells = average.shape().stored() / 4;
    let (workgroup, each) = sweep(ctx);
    Launch::new(&KERNEL)
        .tensors(&[control, schedule, source, average, &working_copy])
        .params(&Params { cells: cells as u32 })
        .constant("WRITE_WORKING", working.is_some())
        .constant("WORKGROUP", workgroup as f64)
        .constant("CELLS", each as f64)
        .groups(cells.div_ceil(workgroup * each))
        .flops(3.0 * average.shape().elements() as f64)
        .run(ctx)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    if Control::from_words(&block(&t.u32(0))).skip {
        return Ok(());
    }
    let keep = f64::from(f32::from_bits(block(&t.u32(1))[4]));
    let step = |(a, s): (&f32, &f32)| (keep * f64::from(*a) + (1.0 - keep) * f64::from(*s)) as f32;
    let moved: Vec<f32> = t.f32(3).iter().zip(&t.f32(2)).map(step).collect();
    if t.flag("WRITE_WORKING") {
        t.put_f32(4, moved.clone());
    }
    t.put_f32(3, moved);
    Ok(())
}

/// Sizes around a cell and a workgroup; a decay of 1, a working copy, a step to skip.
pub fn cases() -> Vec<Case> {
    [
        (1, 0.5, false, false),
        (7, 1.0, true, false),
        (1029, 0.25, true, false),
        (9001, 0.25, true, false),
        (64, 0.5, true, true),
    ]
    .into_iter()
    .map(|(n, keep, copy, skip)| {
        let name = format!("{n} keep {keep} copy {copy} skip {skip}");
        Case::new(name, Tolerance::elementwise(), move |ctx, storage| {
            let source = samples::normal(ctx, &[n], DType::F32, 1)?;
            let average = samples::normal(ctx, &[n], DType::F32, 2)?;
            let working = samples::normal(ctx, &[n], storage, 3)?;
            let control = Tensor::from_u32(ctx, &[WORDS], &Control { skip, ..Control::new(1.0) }.to_words())?;
            let schedule = sample_schedule(ctx, 0.1, keep)?;
            launch(ctx, &control, &schedule, &source, &average, copy.then_some(&working))?;
            Ok(vec![average, working])
        })
    })
    .collect()
}

/// Wrong texts that a case must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "(1.0 - keep) * floats", replace: "keep * floats" },
    Fault { find: "const EMA = 4u", replace: "const EMA = 3u" },
    Fault { find: "|| control[SKIP] == 1u", replace: "" },
    Fault { find: "start + CELLS * WORKGROUP", replace: "start + WORKGROUP" },
    Fault { find: "pack4(moved)", replace: "pack4(floats(source[cell]))" },
];
