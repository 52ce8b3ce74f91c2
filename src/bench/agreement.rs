//! Correct before fast, for whole steps: a few steps of the model made small, against the twins.

use super::step::synthetic;
use crate::device::{Context, Launched};
use crate::error::{Error, Result};
use crate::kernels::{ALL, differences};
use crate::shape::DType;
use crate::train::config::{Precision, RunConfig, Schedule};
use crate::train::trainer::Trainer;

/// Steps that are compared: one by the tape, one that is recorded, one that is replayed.
const STEPS: usize = 3;

/// How far a device may be from the twins.
struct Tolerance {
    /// Losses and the gradient's norm, relative.
    values: f64,
    /// What the parameters have changed by: distance over length. The first updates of AdamW are as long for a gradient of
    /// rounding errors, such as that of a key's bias, as for any other, so this is wide. A rule with a wrong sign or a lost term is
    /// far outside, one that is wrong by little may not be: kernels have test cases of their own for that.
    change: f64,
    /// The same of each matrix alone, whose gradients are no rounding errors in f32. In halves the smallest of them may be.
    matrix: f64,
}

const F32: Tolerance = Tolerance { values: 1e-3, change: 0.2, matrix: 0.3 };
const F16: Tolerance = Tolerance { values: 3e-2, change: 0.4, matrix: f64::INFINITY };

/// The same structure and storage in sizes that the twins do in a second: at most two blocks of a stack, two heads of the same
/// width, two samples, and lengths that fill no tile.
#[must_use]
pub fn reduced(config: &RunConfig) -> RunConfig {
    let mut small = config.clone();
    let m = &mut small.model;
    // A width without heads may be anything.
    let width = |width: usize, heads: &mut usize| {
        let each = if *heads > 0 && width.is_multiple_of(*heads) { width / *heads } else { width };
        *heads = (*heads).min(2);
        (each * (*heads).max(1)).min(width)
    };
    m.width = width(m.width, &mut m.heads);
    m.text_width = width(m.text_width, &mut m.text_heads);
    for depth in [&mut m.depth, &mut m.decoder_depth, &mut m.text_depth, &mut m.predictor_depth] {
        *depth = (*depth).min(2);
    }
    m.image_size = m.patch * m.grid().min(6);
    m.text_length = m.text_length.min(17);
    m.text_embed = m.text_embed.min(64);
    m.latent = m.latent.min(64);
    m.vocab = m.vocab.min(250);
    let t = &mut small.train;
    (t.batch, t.micro_batches) = (t.batch.min(2), t.micro_batches.min(2));
    // No warm-up: the updates must be long enough to be seen.
    (t.steps, t.schedule, t.warmup, t.lr) = (100, Schedule::Constant, Some(0), t.lr.max(1e-4));
    small
}

/// What has been found right on a device.
#[derive(Default)]
pub struct Agreement {
    /// Reduced configurations, with the kernels that they launch.
    steps: Vec<(RunConfig, Vec<&'static str>)>,
    kernels: Vec<(&'static str, DType)>,
}

impl Agreement {
    /// Compares steps of the reduced model with the twins, then every kernel among `launches` that those did not launch, in its
    /// own test cases. Says what was compared. On the twins there is nothing to compare.
    ///
    /// # Errors
    /// `Error::Check` where they differ: then no time may be printed.
    pub fn check(&mut self, ctx: &Context, config: &RunConfig, launches: &[Launched]) -> Result<String> {
        if ctx.is_cpu() {
            return Ok("the twins themselves".to_owned());
        }
        let small = reduced(config);
        let known = self.steps.iter().position(|(seen, _)| *seen == small);
        let at = match known {
            Some(at) => at,
            None => {
                let kernels = compare(ctx, &small)?;
                self.steps.push((small.clone(), kernels));
                self.steps.len() - 1
            }
        };
        let mut apart = Vec::new();
        for launch in launches.iter().filter(|l| !self.steps[at].1.contains(&l.kernel)) {
            if !apart.contains(&launch.kernel) {
                apart.push(launch.kernel);
            }
            let key = (launch.kernel, launch.dtypes.0);
            if !self.kernels.contains(&key) {
                examine(ctx, key)?;
                self.kernels.push(key);
            }
        }
        let (m, tolerance) = (&small.model, tolerance(&small));
        let mut how = format!(
            "{STEPS} steps against the twins at {} samples of {} tokens, width {}: losses and gradient norm within {}, what \
             the parameters change by within {}",
            small.train.batch * small.train.micro_batches,
            m.tokens(),
            m.width,
            tolerance.values,
            tolerance.change
        );
        if !apart.is_empty() {
            how += &format!("; not launched there, in their own test cases: {}", apart.join(", "));
        }
        Ok(how)
    }
}

const fn tolerance(config: &RunConfig) -> &'static Tolerance {
    match config.train.precision {
        Precision::F32 => &F32,
        Precision::F16 => &F16,
    }
}

fn wrong(what: &str, detail: String) -> Error {
    Error::Check { what: format!("{what} against the twins, before any time"), detail }
}

/// Every test case of a kernel that such a device runs.
fn examine(ctx: &Context, (kernel, dtype): (&'static str, DType)) -> Result<()> {
    let Some(entry) = ALL.iter().find(|e| e.kernel.name == kernel) else { return Ok(()) };
    if (entry.missing)(ctx, dtype).is_some() {
        return Ok(());
    }
    let cpu = Context::cpu();
    for case in (entry.cases)() {
        let (got, want) = ((case.run)(ctx, dtype)?, (case.run)(&cpu, dtype)?);
        if let Some(first) = differences(&got, &want, case.tolerance, dtype, 1)?.first() {
            return Err(wrong(kernel, format!("{} in {dtype}: {first}", case.label)));
        }
    }
    Ok(())
}

/// What some steps changed a parameter by.
#[derive(Clone, Debug, PartialEq)]
struct Change {
    name: String,
    matrix: bool,
    values: Vec<f32>,
}

/// What some steps came to.
#[derive(Clone, Debug, PartialEq)]
struct Outcome {
    /// Losses and gradient norm of each step, by name.
    values: Vec<(String, f64)>,
    /// Change of each parameter, and whether it is a matrix.
    change: Vec<Change>,
    kernels: Vec<&'static str>,
}

fn outcome(ctx: &Context, config: &RunConfig) -> Result<Outcome> {
    let mut trainer = Trainer::new(ctx, config)?;
    let before = trainer.model.params.read()?;
    let (mut values, mut kernels) = (Vec::new(), Vec::new());
    for step in 1..=STEPS {
        let batch = synthetic(config, step as u32);
        let ((), launches) = ctx.traced(|| trainer.step(&batch))?;
        kernels.extend(launches.iter().map(|l| l.kernel));
        let (losses, norm) = (trainer.losses()?, trainer.control()?.norm);
        let named = losses.named().map(|(name, value)| (name, *value)).into_iter().chain([("gradient norm", norm)]);
        values.extend(named.map(|(name, value)| (format!("{name} of step {step}"), f64::from(value))));
    }
    kernels.sort_unstable();
    kernels.dedup();
    let change = trainer.model.params.read()?.into_iter().zip(&before).map(|((name, shape, after), (_, _, before))| {
        let values = after.iter().zip(before).map(|(after, before)| after - before).collect();
        Change { name, matrix: shape.len() > 1, values }
    });
    let change = change.collect();
    Ok(Outcome { values, change, kernels })
}

/// The first thing that is too far from what the twins have; `None` when all is well.
fn difference(got: &Outcome, want: &Outcome, tolerance: &Tolerance) -> Option<String> {
    if got.values.len() != want.values.len() || got.change.len() != want.change.len() {
        return Some("not of one model".to_owned());
    }
    for ((name, x), (_, y)) in got.values.iter().zip(&want.values) {
        // A step in halves that overflows is skipped by both.
        let both = !x.is_finite() && !y.is_finite();
        let near = (x - y).abs() <= tolerance.values * y.abs() + 1e-6;
        if !both && !near {
            return Some(format!("{name}: {x:e}, the twins have {y:e}, allowed is {}", tolerance.values));
        }
    }
    let (mut distance, mut length) = (0.0, 0.0);
    for (x, y) in got.change.iter().zip(&want.change) {
        let square = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
        let apart = square(&mut x.values.iter().zip(&y.values).map(|(x, y)| x - y));
        let own = square(&mut y.values.iter().copied());
        let allowed = if y.matrix { tolerance.matrix } else { f64::INFINITY };
        if let Some(wrong) = too_far(apart, own, allowed) {
            return Some(format!("the change of {} is {wrong}", y.name));
        }
        (distance, length) = (distance + apart, length + own);
    }
    too_far(distance, length, tolerance.change).map(|wrong| format!("the parameters' change is {wrong}"))
}

/// What to say of two vectors whose distance is not within a part of the length; both squared. Not a number is too far.
fn too_far(distance: f64, length: f64, allowed: f64) -> Option<String> {
    let (distance, length) = (distance.sqrt(), length.sqrt());
    let near = distance <= allowed * length || (allowed.is_infinite() && distance.is_finite());
    (!near).then(|| format!("{:.3} of its length from that of the twins, allowed is {allowed}", distance / length))
}

/// Compares, and returns the kernels that were launched.
fn compare(ctx: &Context, small: &RunConfig) -> Result<Vec<&'static str>> {
    let (got, want) = (outcome(ctx, small)?, outcome(&Context::cpu(), small)?);
    match difference(&got, &want, tolerance(small)) {
        Some(detail) => Err(wrong("training steps", detail)),
        None => Ok(got.kernels),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::{PRESETS, preset};

    #[test]
    fn reduced_models_are_small_and_of_the_same_structure() {
        let mut wrong = Vec::new();
        for name in PRESETS {
            let mut config = RunConfig::new(preset(name).unwrap());
            (config.train.batch, config.train.precision) = (64, Precision::F16);
            let small = reduced(&config);
            let kernels = |config: &RunConfig| {
                let ctx = Context::dry(None);
                let mut trainer = Trainer::new(&ctx, config).unwrap();
                trainer.step_dry().unwrap();
                (ctx.counters().kernels.into_keys().collect::<Vec<_>>(), ctx.counters().flops)
            };
            let ((all, _), (few, flops)) = (kernels(&config), kernels(&small));
            if small.validate().is_err() || all != few || flops > 2e9 || small.train.precision != Precision::F16 {
                wrong.push(format!("{name}: {flops:e} FLOP, {all:?}, {few:?}"));
            }
            // Small already: the same again.
            assert_eq!(reduced(&small), small);
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn what_differs_is_named() {
        // A matrix, and a bias of noise beside it.
        let of = |norm: f64, matrix: &[f32], bias: f32| {
            let change =
                |name: &str, matrix, values: &[f32]| Change { name: name.into(), matrix, values: values.to_vec() };
            Outcome {
                values: vec![("total of step 1".to_owned(), 2.0), ("gradient norm of step 1".to_owned(), norm)],
                change: vec![change("weight", true, matrix), change("bias", false, &[bias])],
                kernels: vec![],
            }
        };
        let want = of(3.0, &[1.0, -1.0], 0.1);
        let cases = [
            ("the same", of(3.0, &[1.0, -1.0], 0.1), None),
            ("rounded otherwise", of(3.001, &[1.05, -1.0], 0.1), None),
            ("noise", of(3.0, &[1.0, -1.0], -0.1), None),
            ("too much noise", of(3.0, &[1.0, -1.0], -0.5), Some("the parameters' change is 0.4")),
            ("another norm", of(3.1, &[1.0, -1.0], 0.1), Some("gradient norm")),
            ("not a number", of(f64::NAN, &[1.0, -1.0], 0.1), Some("gradient norm")),
            ("updated the other way", of(3.0, &[-1.0, 1.0], 0.1), Some("the change of weight is 2.000")),
            ("not updated", of(3.0, &[0.0, 0.0], 0.1), Some("the change of weight is 1.000")),
            ("updated to nothing", of(3.0, &[f32::NAN, 0.0], 0.1), Some("the change of weight is NaN")),
            ("a bias of nothing", of(3.0, &[1.0, -1.0], f32::NAN), Some("the change of bias is NaN")),
            ("another model", Outcome { change: vec![], ..want.clone() }, Some("not of one model")),
        ];
        for (name, got, part) in cases {
            let found = difference(&got, &want, &F32);
            let right = match (&found, part) {
                (None, None) => true,
                (Some(found), Some(part)) => found.contains(part),
                _ => false,
            };
            assert!(right, "{name}: {found:?}");
        }
        let skipped = of(f64::INFINITY, &[0.0, 0.0], 0.0);
        assert_eq!(difference(&skipped, &skipped.clone(), &F16), None);
    }
}
