//! Checking the model against golden files: every output, loss and gradient of one pass, then N optimiser steps.
//! Which rows are compared and how close they must be is written in `docs/golden.md`.

use std::collections::BTreeMap;
use std::path::Path;

use super::checkpoint::{Named, load_weights, require_same_model};
use super::config::{Precision, RunConfig, Schedule};
use super::golden::{Arrays, read_arrays, read_config};
use super::trainer::Trainer;
use crate::device::Context;
use crate::error::{Error, Result};
use crate::model::inputs::{HostBatch, Inputs};
use crate::model::m2ae::Outputs;
use crate::shape::DType;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// One compared tensor.
#[derive(Clone, Debug)]
pub struct Row {
    /// Name as in the golden files.
    pub name: String,
    /// How far it is from the golden value, as the tolerance counts.
    pub error: f64,
    /// How far it may be; infinite for what is reported and not judged.
    pub tolerance: f64,
}

impl Row {
    /// Whether it is close enough; an infinity or no number never is.
    #[must_use]
    pub fn passes(&self) -> bool {
        self.error.is_finite() && self.error <= self.tolerance
    }

    /// Whether it has a tolerance.
    #[must_use]
    pub fn judged(&self) -> bool {
        self.tolerance.is_finite()
    }
}

/// Tolerances by precision.
struct Tolerances {
    outputs: f64,
    gradients: f64,
    /// Part of the norm of all gradients together that a nearly cancelled gradient may be off by.
    cancelled: f64,
    /// What the key third of an attention bias may be: zero in exact arithmetic.
    key_bias: f64,
    /// Losses of the steps and change of the weights; checked in f32 alone.
    training: Option<(f64, f64)>,
}

const F32: Tolerances =
    Tolerances { outputs: 1e-5, gradients: 1e-4, cancelled: 0.0, key_bias: 1e-6, training: Some((1e-4, 2e-3)) };
const F16: Tolerances = Tolerances { outputs: 2e-2, gradients: 2e-2, cancelled: 1e-4, key_bias: 1e-3, training: None };

/// The largest change that noise in the key third of an attention bias may make over a run: see `docs/golden.md`.
const KEY_BIAS_DRIFT: f64 = 1e-2;

/// Runs the golden folder on `ctx` and lists every comparison. `steps` optimiser steps (at most those stored).
///
/// # Errors
/// `Error::Checkpoint`, `Error::Config`, `Error::Io` for files that cannot be used, else what the device reports.
pub fn verify(ctx: &Context, folder: &Path, steps: usize, precision: Precision) -> Result<Vec<Row>> {
    let mut config = read_config(&folder.join("config.json"))?;
    config.train.precision = precision;
    config.train.schedule = Schedule::Constant;
    let arrays = read_arrays(&folder.join("inputs.safetensors"))?;
    config.train.batch = arrays.bools("has_image")?.len();
    let mut golden = Golden::open(ctx, folder, config, &arrays)?;
    let tolerances = if precision == Precision::F32 { &F32 } else { &F16 };
    let mut rows = golden.forward(folder, tolerances)?;
    rows.extend(golden.training(folder, steps, tolerances)?);
    Ok(rows)
}

struct Golden {
    trainer: Trainer,
    inputs: Inputs,
    open: OpenRows,
    start: Vec<Named>,
    /// Values on the device before the first step.
    began: BTreeMap<String, Vec<f32>>,
}

/// Which samples and tokens are specified.
struct OpenRows {
    has_image: Vec<bool>,
    has_text: Vec<bool>,
    tokens: Vec<bool>,
}

impl Golden {
    fn open(ctx: &Context, folder: &Path, config: RunConfig, arrays: &Arrays) -> Result<Self> {
        let path = folder.join("weights.safetensors");
        let (weights, saved) = load_weights(&path)?;
        require_same_model(&path, &saved, &config.model)?;
        let trainer = Trainer::new(ctx, &config)?;
        let entries = weights.iter().map(|n| (n.name.clone(), n.shape.clone(), n.data.clone())).collect::<Vec<_>>();
        trainer.model.params.load(&entries)?;
        let began = trainer.model.params.read()?.into_iter().map(|(name, _, values)| (name, values)).collect();
        let (image, tokens) = (arrays.f32("image")?, arrays.u32("tokens")?);
        let (has_image, has_text) = (arrays.bools("has_image")?, arrays.bools("has_text")?);
        let (show_image, show_text) = (arrays.bools("show_image")?, arrays.bools("show_text")?);
        let masked = arrays.bools("masked")?.iter().map(|&m| f32::from(u8::from(m))).collect::<Vec<_>>();
        let masked = Tensor::from_f32(ctx, &[has_image.len(), config.model.tokens()], &masked, DType::F32)?;
        let host = HostBatch {
            image: &image,
            tokens: &tokens,
            has_image: &has_image,
            has_text: &has_text,
            show_image: &show_image,
            show_text: &show_text,
        };
        let inputs = Inputs::upload(ctx, &config.model, &host, masked, trainer.model.precision)?;
        let rows = tokens.chunks(config.model.text_length);
        let text = rows.zip(&has_text).map(|(row, &has)| has && row.iter().any(|&t| t != 0)).collect();
        let open = OpenRows { has_image, has_text: text, tokens: tokens.iter().map(|&t| t != 0).collect() };
        Ok(Self { trainer, inputs, open, start: weights, began })
    }

    /// Outputs, losses and gradients of one pass.
    fn forward(&mut self, folder: &Path, tolerances: &Tolerances) -> Result<Vec<Row>> {
        let golden = read_arrays(&folder.join("outputs.safetensors"))?;
        let model = &self.trainer.model;
        let mut tape = Tape::new(model.context());
        let outputs = model.forward(&mut tape, &self.inputs)?;
        let mut rows = Vec::new();
        for (name, var) in named(&outputs) {
            let (got, want) = (var.value().to_f32()?, golden.f32(name)?);
            let specified = self.open.mask(name, &want.len(), var);
            rows.push(Row {
                name: name.into(),
                error: largest(&got, &want, &specified),
                tolerance: tolerances.outputs,
            });
        }
        for (name, var) in outputs.losses.named() {
            let name = format!("loss.{name}");
            let (got, want) = (var.value().to_f32()?, golden.f32(&name)?);
            rows.push(Row { error: largest(&got, &want, &[true]), name, tolerance: tolerances.outputs });
        }
        model.params.zero_gradients()?;
        // Halves need the gradients scaled up; the scale is divided out again below.
        let scale = if tolerances.training.is_some() { 1.0f32 } else { 32768.0 };
        let seed = Tensor::from_f32(model.context(), &[], &[scale], DType::F32)?;
        tape.backward(&outputs.losses.total, &seed)?;
        rows.extend(self.gradients(folder, f64::from(scale), tolerances)?);
        Ok(rows)
    }

    fn gradients(&self, folder: &Path, scale: f64, tolerances: &Tolerances) -> Result<Vec<Row>> {
        let golden = read_arrays(&folder.join("grads.safetensors"))?;
        let total = golden.names().map(|n| golden.f32(n).map(|g| squares(&g))).sum::<Result<f64>>()?.sqrt();
        let mut rows = Vec::new();
        for param in self.trainer.model.params.params() {
            let Some(grad) = &param.grad else { continue };
            let name = format!("grad.{}", param.name);
            let want = golden.f32(&name)?;
            let got: Vec<f32> = grad.to_f32()?.iter().map(|g| (f64::from(*g) / scale) as f32).collect();
            if let Some(keys) = key_third(&param.name, got.len()) {
                let error = got[keys.clone()].iter().fold(0.0f64, |m, g| larger(m, f64::from(g.abs())));
                rows.push(Row { name: format!("{name} (keys)"), error, tolerance: tolerances.key_bias });
            }
            let allowed = tolerances.gradients * squares(&want).sqrt() + tolerances.cancelled * total;
            let error = distance(&got, &want, &param.name) / allowed.max(f64::MIN_POSITIVE) * tolerances.gradients;
            rows.push(Row { name, error, tolerance: tolerances.gradients });
        }
        Ok(rows)
    }

    /// Losses of each step and the weights after the last.
    fn training(&mut self, folder: &Path, steps: usize, tolerances: &Tolerances) -> Result<Vec<Row>> {
        let golden = read_arrays(&folder.join("train.safetensors"))?;
        let stored = golden.f32("loss.total")?.len();
        let (losses, change) = tolerances.training.unwrap_or((f64::INFINITY, f64::INFINITY));
        let mut worst: BTreeMap<String, f64> = BTreeMap::new();
        for step in 0..steps.min(stored) {
            self.trainer.step_on(&self.inputs)?;
            let got = self.trainer.losses()?;
            let norm = self.trainer.control()?.norm;
            let all = got.named().map(|(n, v)| (format!("loss.{n}"), *v));
            for (name, value) in all.into_iter().chain([("grad_norm".to_owned(), norm)]) {
                let want = f64::from(golden.f32(&name)?.get(step).copied().unwrap_or(f32::NAN));
                let error = (f64::from(value) - want).abs() / want.abs().max(1e-12);
                let entry = worst.entry(format!("train.{name}")).or_default();
                *entry = larger(*entry, error);
            }
        }
        let mut rows: Vec<Row> =
            worst.into_iter().map(|(name, error)| Row { name, error, tolerance: losses }).collect();
        if steps >= stored {
            rows.extend(self.finals(&golden, change)?);
        }
        Ok(rows)
    }

    fn finals(&self, golden: &Arrays, tolerance: f64) -> Result<Vec<Row>> {
        let start: BTreeMap<&str, &Named> = self.start.iter().map(|n| (n.name.as_str(), n)).collect();
        let mut rows = Vec::new();
        for (name, _, got) in self.trainer.model.params.read()? {
            let want = golden.f32(&format!("final.{name}"))?;
            let Some(before) = start.get(name.as_str()) else { continue };
            if let Some(keys) = key_third(&name, got.len()) {
                let drift = |i: usize| f64::from((got[i] - want[i]).abs());
                let error = keys.map(drift).fold(0.0, larger);
                let allowed = if tolerance.is_finite() { KEY_BIAS_DRIFT } else { f64::INFINITY };
                rows.push(Row { name: format!("final.{name} (keys)"), error, tolerance: allowed });
            }
            let update = squares_of(want.iter().zip(&before.data).map(|(w, b)| f64::from(w - b))).sqrt();
            // A frozen parameter must not move at all, from where it began: f16 precision keeps it as halves.
            let still = update == 0.0 && self.began.get(&name) == Some(&got);
            let error = if still { 0.0 } else { distance(&got, &want, &name) / update };
            rows.push(Row { name: format!("final.{name}"), error, tolerance });
        }
        Ok(rows)
    }
}

fn named(o: &Outputs) -> [(&'static str, &Var); 14] {
    [
        ("patch_tokens", &o.patch_tokens),
        ("encoded", &o.encoded),
        ("text_encoded", &o.text_encoded),
        ("v", &o.v),
        ("w", &o.w),
        ("z", &o.z),
        ("image_hat", &o.image_hat),
        ("text_hat", &o.text_hat),
        ("context", &o.context),
        ("prediction", &o.prediction),
        ("target", &o.target),
        ("z_image", &o.z_image),
        ("z_text", &o.z_text),
        ("logits", &o.logits),
    ]
}

impl OpenRows {
    /// Which elements of an output are specified: those of a missing modality are left open by the text.
    fn mask(&self, name: &str, count: &usize, var: &Var) -> Vec<bool> {
        let batch = self.has_image.len();
        let each = count / batch;
        let width = var.value().shape().last();
        let keep = |i: usize| {
            let (b, token) = (i / each, i / width);
            match name {
                "patch_tokens" | "encoded" | "v" | "context" | "prediction" | "target" | "z_image" => self.has_image[b],
                "w" | "z_text" => self.has_text[b],
                "text_encoded" => self.has_text[b] && self.tokens[token],
                "logits" => self.has_image[b] && self.has_text[i % batch],
                _ => true,
            }
        };
        (0..*count).map(keep).collect()
    }
}

/// The larger of two errors; no number when one is none, which `f64::max` would pass over.
fn larger(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// Largest difference over the largest absolute value; infinite when the lengths differ, NaN when a value is.
fn largest(got: &[f32], want: &[f32], specified: &[bool]) -> f64 {
    if got.len() != want.len() {
        return f64::INFINITY;
    }
    let top = want.iter().fold(0.0f64, |m, w| m.max(f64::from(w.abs())));
    let mut worst = 0.0f64;
    for ((g, w), _) in got.iter().zip(want).zip(specified).filter(|(_, specified)| **specified) {
        worst = larger(worst, f64::from(g - w).abs());
    }
    if worst == 0.0 { 0.0 } else { worst / top }
}

/// Rows D..2D of an attention bias: the keys, whose gradient is zero in exact arithmetic.
fn key_third(name: &str, length: usize) -> Option<std::ops::Range<usize>> {
    name.ends_with("attn.qkv.bias").then(|| length / 3..2 * length / 3)
}

/// Norm of the difference, without the key third of attention biases.
fn distance(got: &[f32], want: &[f32], name: &str) -> f64 {
    if got.len() != want.len() {
        return f64::INFINITY;
    }
    let skip = key_third(name, got.len()).unwrap_or(0..0);
    let differences = got.iter().zip(want).enumerate().filter(|(i, _)| !skip.contains(i));
    squares_of(differences.map(|(_, (g, w))| f64::from(g - w))).sqrt()
}

fn squares(values: &[f32]) -> f64 {
    squares_of(values.iter().map(|v| f64::from(*v)))
}

fn squares_of(values: impl Iterator<Item = f64>) -> f64 {
    values.map(|v| v * v).sum()
}

/// An error that lists the rows beyond their tolerance; `Ok` when there are none.
///
/// # Errors
/// `Error::Check`.
pub fn require(rows: &[Row]) -> Result<()> {
    let beyond: Vec<String> =
        rows.iter().filter(|r| !r.passes()).map(|r| format!("{} {:.1e}", r.name, r.error)).collect();
    if beyond.is_empty() {
        return Ok(());
    }
    Err(Error::Check { what: "verification".into(), detail: format!("beyond tolerance: {}", beyond.join(", ")) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_number_never_passes() {
        let want = [1.0, -2.0, 0.5];
        let all = [true];
        // Values, which of them count, error as a share of the largest.
        let cases: [(&[f32], &[bool], f64); 7] = [
            (&want, &all, 0.0),
            (&[1.0, -2.0, 1.0], &all, 0.25),
            (&[f32::NAN, -2.0, 0.5], &all, f64::NAN),
            (&[1.0, f32::NAN, 1.0], &all, f64::NAN),
            (&[1.0, -2.0, f32::INFINITY], &all, f64::INFINITY),
            (&[f32::NAN, -2.0, 1.0], &[false, true, true], 0.25),
            (&[1.0, -2.0], &all, f64::INFINITY),
        ];
        for (got, specified, error) in cases {
            let specified: Vec<_> = specified.iter().cycle().take(3).copied().collect();
            let found = largest(got, &want, &specified);
            assert_eq!(found.to_bits(), error.to_bits(), "{got:?}: {found}");
            for tolerance in [0.5, f64::INFINITY] {
                let row = Row { name: String::new(), error: found, tolerance };
                assert_eq!(row.passes(), error.is_finite(), "{got:?} within {tolerance}");
            }
        }
        assert!(distance(&[f32::NAN, 0.0], &[0.0, 0.0], "x").is_nan());
    }
}
