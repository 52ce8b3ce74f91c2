//! What happens to the parameters: the gradient's norm and what follows from it, AdamW, the moving average, bounds.

use super::{Shapes, twinned};
use crate::bench::case::{Case, Work};
use crate::device::Context;
use crate::error::Result;
use crate::kernels::adamw::{Buffers, Hyper};
use crate::kernels::step_control::Rules;
use crate::kernels::{Tolerance, accumulate, adamw, clamp, ema, samples, step_control, sum_squares};
use crate::optim::{Control, StepInputs};
use crate::shape::DType;
use crate::tensor::Tensor;

const HYPER: Hyper = Hyper { beta1: 0.9, beta2: 0.95, eps: 1e-8, decay: 0.05 };

/// Control block and schedule of a step in the middle of a run.
fn blocks(ctx: &Context) -> Result<(Tensor, Tensor)> {
    let control = Control { multiplier: 0.5, rest1: 0.41, rest2: 0.23, ..Control::new(1.0) }.to_words();
    let schedule = StepInputs { seed: 1, step: 5, lr: 1e-3, ema: 0.996 };
    Ok((Tensor::from_u32(ctx, &[control.len()], &control)?, schedule.tensor(ctx)?))
}

pub(super) fn cases(shapes: &Shapes) -> Vec<Case> {
    let mut cases = sweeps(shapes.parameters);
    cases.extend(decisions(shapes.parameters));
    cases
}

/// Before and after the sweeps: a gradient added to what its slot holds, the decision of a step, a bound on one parameter.
fn decisions(n: usize) -> Vec<Case> {
    let partials = sum_squares::partials(n);
    vec![
        twinned(
            "accumulate",
            format!("{n} elements"),
            (2.0 * n as f64, 0, 3 * n),
            Tolerance::elementwise(),
            move |ctx, _, seed| {
                let draw = |i| samples::normal(ctx, &[n], DType::F32, 4 * seed + i);
                let (src, dst) = (draw(0)?, draw(1)?);
                Ok(Work::new(&[&src.clone()], move |ctx| {
                    accumulate::launch(ctx, &src, &dst, 0.5)?;
                    Ok(vec![dst.clone()])
                }))
            },
        ),
        // The block holds floats as words, which would be compared bit for bit: the loss scale alone is looked at here, on
        // the step at which it grows, and the rest of the block in the kernel's own test cases.
        twinned(
            "step_control",
            format!("{partials} sums"),
            (partials as f64, 0, partials + 17),
            Tolerance::exact(),
            move |ctx, _, seed| {
                let sums = samples::uniform(ctx, &[partials], DType::F32, seed)?;
                let control = Control { good_steps: 199, ..Control::new(1024.0) }.to_words();
                let control = Tensor::from_u32(ctx, &[control.len()], &control)?;
                let rules = Rules { clip: 1.0, beta1: 0.9, beta2: 0.95, dynamic: true, micro_batches: 1 };
                Ok(Work::new(&[&sums.clone()], move |ctx| {
                    let scale = Tensor::empty(ctx, &[], DType::F32)?;
                    step_control::launch(ctx, &sums, &control, &scale, &rules)?;
                    Ok(vec![scale])
                }))
            },
        ),
        twinned("clamp", "1 scalar", (2.0, 1, 2), Tolerance::elementwise(), move |ctx, dtype, _| {
            let x = Tensor::from_f32(ctx, &[], &[7.0], DType::F32)?;
            let working = Tensor::empty(ctx, &[], dtype)?;
            let (control, _) = blocks(ctx)?;
            Ok(Work::new(&[&x.clone()], move |ctx| {
                clamp::launch(ctx, &control, &x, Some(&working), (0.0, 4.6))?;
                Ok(vec![x.clone(), working.clone()])
            }))
        }),
    ]
}

fn sweeps(n: usize) -> Vec<Case> {
    let label = format!("{n} elements");
    // AdamW reads four tensors and writes three, and the working copy; the average reads two and writes one, and its copy.
    let costs =
        [(2.0, 0, n), (15.0, n, 7 * n), (3.0, n, 3 * n)].map(|(each, stored, words)| (each * n as f64, stored, words));
    vec![
        twinned("sum_squares", &label, costs[0], Tolerance::sum(n), move |ctx, _, seed| {
            let x = samples::normal(ctx, &[n], DType::F32, seed)?;
            Ok(Work::new(&[&x.clone()], move |ctx| {
                let partials = Tensor::empty(ctx, &[sum_squares::partials(n)], DType::F32)?;
                sum_squares::launch(ctx, &x, &partials)?;
                Ok(vec![partials])
            }))
        }),
        twinned("adamw", &label, costs[1], Tolerance { abs: 2e-6, rel: 4e-6 }, move |ctx, dtype, seed| {
            let draw = |i| samples::normal(ctx, &[n], DType::F32, 4 * seed + i);
            let (grad, weight, m) = (draw(0)?, draw(1)?, draw(2)?);
            // Second moments are not negative.
            let v = samples::uniform(ctx, &[n], DType::F32, 4 * seed + 3)?;
            let working = Tensor::empty(ctx, &[n], dtype)?;
            let (control, schedule) = blocks(ctx)?;
            Ok(Work::new(&[&grad.clone()], move |ctx| {
                let on = Buffers { grad: &grad, weight: &weight, m: &m, v: &v, working: Some(&working) };
                adamw::launch(ctx, &control, &schedule, &on, &HYPER)?;
                Ok(vec![weight.clone(), m.clone(), v.clone(), working.clone()])
            }))
        }),
        twinned("ema", &label, costs[2], Tolerance::elementwise(), move |ctx, dtype, seed| {
            let (source, average) = (
                samples::normal(ctx, &[n], DType::F32, 4 * seed)?,
                samples::normal(ctx, &[n], DType::F32, 4 * seed + 1)?,
            );
            let working = Tensor::empty(ctx, &[n], dtype)?;
            let (control, schedule) = blocks(ctx)?;
            Ok(Work::new(&[&source.clone()], move |ctx| {
                ema::launch(ctx, &control, &schedule, &source, &average, Some(&working))?;
                Ok(vec![average.clone(), working.clone()])
            }))
        }),
    ]
}
