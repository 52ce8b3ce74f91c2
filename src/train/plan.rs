//! What a training step takes, found out before anything is allocated: one step of the real trainer on a dry context.

use serde_json::{Value as Json, json};

use super::config::RunConfig;
use super::trainer::Trainer;
use crate::device::{Capabilities, Context, PipelineList, Preparation, Tuning};
use crate::error::{Error, Result};

/// What a knob can do against too large a need.
const SMALLER: &str =
    "lower train.batch (raise train.micro_batches to keep the samples per update), or take a smaller model";

/// The cost of one training step. Bytes, operations and launches are those of a step after the first.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Elements of all parameters.
    pub parameters: u64,
    /// Of these, the trained ones.
    pub trained: u64,
    /// Bytes of parameters, gradients and moments.
    pub resident_bytes: u64,
    /// Most bytes in use at once, the resident ones included.
    pub peak_bytes: u64,
    /// Bytes that the pool takes from the device for that: waiting buffers of other sizes included.
    pub reserved_bytes: u64,
    /// Launches of a step.
    pub launches: u64,
    /// Arithmetic operations of a step.
    pub flops: f64,
    /// Bytes that the launches of a step move at least.
    pub moved_bytes: f64,
    /// Samples of a step.
    pub samples: u64,
    /// Every kernel with its part, most operations first.
    pub kernels: Vec<KernelCost>,
    /// Bytes of the largest tensor that a launch binds, and the kernel.
    pub largest_binding: (u64, String),
    /// Bytes of the largest buffer.
    pub largest_buffer: u64,
    /// What one binding of the device may show.
    pub max_binding: u64,
    /// What one buffer of the device may hold.
    pub max_buffer: u64,
}

/// A kernel's part of a step.
#[derive(Clone, Debug, PartialEq)]
pub struct KernelCost {
    /// Stem of the shader.
    pub name: String,
    /// Launches.
    pub launches: u64,
    /// Arithmetic operations.
    pub flops: f64,
    /// Bytes moved at least.
    pub bytes: f64,
}

/// Runs two steps of `config` on a dry context with the limits of `capabilities` and reports the second. Nothing is
/// allocated, neither on a device nor, beyond what is small, on the host.
///
/// # Errors
/// `Error::Config`; `Error::Limit` when a parameter alone does not fit a buffer.
pub fn plan(config: &RunConfig, capabilities: Option<Capabilities>) -> Result<Plan> {
    let ctx = Context::dry(capabilities);
    let mut trainer = Trainer::new(&ctx, config)?;
    let resident_bytes = ctx.pool().in_use;
    // The first step may launch what later ones find done.
    trainer.step_dry()?;
    let before = ctx.counters();
    trainer.step_dry()?;
    let after = ctx.counters();
    let mut kernels: Vec<_> = after
        .kernels
        .iter()
        .map(|(name, total)| {
            let first = before.kernels.get(name).copied().unwrap_or_default();
            let name = (*name).to_owned();
            KernelCost { name, launches: total.0 - first.0, flops: total.1 - first.1, bytes: total.2 - first.2 }
        })
        .filter(|kernel| kernel.launches > 0)
        .collect();
    kernels.sort_by(|a, b| b.flops.total_cmp(&a.flops).then_with(|| b.bytes.total_cmp(&a.bytes)));
    let (pool, limits) = (ctx.pool(), ctx.capabilities());
    let params = trainer.model.params.params();
    let elements =
        |trained: bool| params.iter().filter(|p| !trained || p.is_trained()).map(|p| p.shape.elements() as u64).sum();
    Ok(Plan {
        parameters: elements(false),
        trained: elements(true),
        resident_bytes,
        peak_bytes: pool.peak,
        reserved_bytes: pool.reserved,
        launches: after.launches - before.launches,
        flops: after.flops - before.flops,
        moved_bytes: after.bytes - before.bytes,
        samples: trainer.samples_per_step() as u64,
        kernels,
        largest_binding: (after.largest_binding.0, after.largest_binding.1.to_owned()),
        largest_buffer: pool.largest,
        max_binding: limits.max_binding,
        max_buffer: limits.max_buffer,
    })
}

/// Compiles the pipelines of a training step of `config`: see [`Context::prepare`].
///
/// # Errors
/// As [`plan`].
pub fn prepare(ctx: &Context, config: &RunConfig) -> Result<Preparation> {
    Ok(ctx.prepare(&needs(config, ctx.capabilities().clone(), ctx.tuning().as_ref().clone())?))
}

/// The pipelines of a training step of `config` on a device of these capabilities, tuned so.
///
/// # Errors
/// As [`plan`].
pub fn needs(config: &RunConfig, capabilities: Capabilities, tuning: Tuning) -> Result<PipelineList> {
    let dry = Context::dry(Some(capabilities));
    dry.set_tuning(tuning);
    Trainer::new(&dry, config)?.step_dry()?;
    Ok(dry.needs())
}

impl Plan {
    /// What the device would refuse, and what to do about it.
    #[must_use]
    pub fn refused(&self) -> Option<Error> {
        let limit = |what: String, needed, available| Error::Limit { what, needed, available, advice: SMALLER };
        let (bytes, kernel) = &self.largest_binding;
        if self.largest_buffer > self.max_buffer {
            Some(limit("a buffer of the training step".into(), self.largest_buffer, self.max_buffer))
        } else if *bytes > self.max_binding {
            Some(limit(format!("binding a tensor in {kernel}"), *bytes, self.max_binding))
        } else {
            None
        }
    }

    /// For machines.
    #[must_use]
    pub fn to_json(&self) -> Json {
        let kernel =
            |k: &KernelCost| json!({ "name": k.name, "launches": k.launches, "flops": k.flops, "bytes": k.bytes });
        json!({
            "parameters": self.parameters,
            "trained_parameters": self.trained,
            "resident_bytes": self.resident_bytes,
            "peak_bytes": self.peak_bytes,
            "reserved_bytes": self.reserved_bytes,
            "launches": self.launches,
            "flops": self.flops,
            "moved_bytes": self.moved_bytes,
            "samples_per_step": self.samples,
            "largest_binding": { "bytes": self.largest_binding.0, "kernel": self.largest_binding.1 },
            "largest_buffer": self.largest_buffer,
            "max_binding": self.max_binding,
            "max_buffer": self.max_buffer,
            "fits": self.refused().is_none(),
            "refused": self.refused().map(|error| error.to_string()),
            "kernels": self.kernels.iter().map(kernel).collect::<Vec<_>>(),
        })
    }

    /// For people: totals, then a line for each kernel.
    #[must_use]
    pub fn to_text(&self) -> String {
        let trained = format!("{}, {} of them trained", self.parameters, self.trained);
        let step =
            format!("{} launches, {} operations, {} moved", self.launches, flops(self.flops), bytes(self.moved_bytes));
        let mut lines = vec![
            format!("parameters       {trained}"),
            format!("samples a step   {}", self.samples),
            format!("a step           {step}"),
            format!("memory           {} at the peak", bytes(self.peak_bytes as f64)),
            format!("  of which       {} parameters, gradients and moments", bytes(self.resident_bytes as f64)),
            format!(
                "  reserved       {} of the device, with buffers that wait to be used again",
                bytes(self.reserved_bytes as f64)
            ),
            fit("largest buffer", self.largest_buffer, self.max_buffer, ""),
            fit("largest binding", self.largest_binding.0, self.max_binding, &self.largest_binding.1),
            String::new(),
            format!("{:<28} {:>8} {:>12} {:>12}", "kernel", "launches", "operations", "bytes"),
        ];
        for k in &self.kernels {
            let (operations, moved) = (flops(k.flops), bytes(k.bytes));
            lines.push(format!("{:<28} {:>8} {operations:>12} {moved:>12}", k.name, k.launches));
        }
        lines.join("\n")
    }
}

fn fit(what: &str, needed: u64, available: u64, of: &str) -> String {
    let verdict = if needed > available { "DOES NOT FIT" } else { "fits" };
    let of = if of.is_empty() { String::new() } else { format!(" in {of}") };
    format!("{what:<16} {}{of}, the device allows {}: {verdict}", bytes(needed as f64), bytes(available as f64))
}

/// `1.23 GiB`.
#[must_use]
pub fn bytes(count: f64) -> String {
    scaled(count, 1024.0, &["B", "KiB", "MiB", "GiB", "TiB", "PiB"])
}

/// `1.23 G`.
#[must_use]
pub fn flops(count: f64) -> String {
    scaled(count, 1000.0, &["", "k", "M", "G", "T", "P", "E"])
}

fn scaled(mut count: f64, base: f64, units: &[&str]) -> String {
    let mut unit = 0;
    while count >= base && unit + 1 < units.len() {
        count /= base;
        unit += 1;
    }
    let digits = if unit == 0 { 0 } else { 2 };
    format!("{count:.digits$} {}", units.get(unit).unwrap_or(&"")).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Batch;
    use crate::model::config::{m2ae, m2ae_tiny};

    fn config(model: crate::model::config::ModelConfig, set: &[&str]) -> RunConfig {
        let mut config = RunConfig::new(model);
        for item in set {
            let (key, value) = item.split_once('=').unwrap();
            config.set(key, value).unwrap();
        }
        config
    }

    /// A full batch of noise-free values: every sample has both modalities.
    fn batch(trainer: &Trainer) -> Batch {
        let (model, size) = (&trainer.config().model, trainer.samples_per_step());
        Batch {
            size,
            image: (0..size * model.pixels()).map(|i| (i % 97) as f32 / 97.0).collect(),
            tokens: (0..size * model.text_length).map(|i| 1 + (i % (model.vocab - 1)) as u32).collect(),
            has_image: vec![true; size],
            has_text: vec![true; size],
            ..Batch::default()
        }
    }

    /// The prediction against real steps on the twins: memory, launches, and each kernel's count.
    #[test]
    fn predictions_come_true() {
        let cases: [&[&str]; 4] = [
            &["train.batch=3"],
            &["train.batch=2", "train.micro_batches=2"],
            &["train.batch=2", "train.precision=f16"],
            &["train.batch=3", "train.checkpoint_blocks=true", "train.freeze=text"],
        ];
        let mut wrong = Vec::new();
        for set in cases {
            let config = config(m2ae_tiny(), set);
            let ctx = Context::cpu();
            let predicted = plan(&config, Some(ctx.capabilities().clone())).unwrap();
            let mut trainer = Trainer::new(&ctx, &config).unwrap();
            let batch = batch(&trainer);
            trainer.step(&batch).unwrap();
            let before = ctx.counters();
            trainer.step(&batch).unwrap();
            let (after, peak) = (ctx.counters(), ctx.pool().peak);
            let off = (predicted.peak_bytes as f64 - peak as f64).abs() / peak as f64;
            if off > 0.05 {
                wrong.push(format!("{set:?}: peak {} predicted, {peak} taken", predicted.peak_bytes));
            }
            for (name, total) in &after.kernels {
                let taken = total.0 - before.kernels.get(name).map_or(0, |k| k.0);
                let found = predicted.kernels.iter().find(|k| k.name == *name).map_or(0, |k| k.launches);
                if taken != found {
                    wrong.push(format!("{set:?}: {name} {found} launches predicted, {taken} made"));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn what_does_not_fit_is_said_with_numbers() {
        let mut small = Context::dry(None).capabilities().clone();
        (small.max_binding, small.max_buffer) = (1 << 20, 1 << 30);
        let fits = plan(&config(m2ae_tiny(), &["train.batch=2"]), Some(small.clone())).unwrap();
        assert!(fits.refused().is_none(), "{:?}", fits.refused());
        let refused = plan(&config(m2ae_tiny(), &["train.batch=4096"]), Some(small)).unwrap();
        let Some(Error::Limit { needed, available, .. }) = refused.refused() else { panic!("{refused:?}") };
        assert!(needed == refused.largest_binding.0 && available == 1 << 20);
        assert!(refused.to_text().contains("DOES NOT FIT") && refused.to_json()["fits"] == false);
    }

    #[test]
    fn the_published_model_is_planned_without_its_memory() {
        let plan = plan(&config(m2ae(), &["train.batch=8"]), None).unwrap();
        assert!(plan.parameters > 20_000_000 && plan.peak_bytes > 4 * plan.parameters);
        assert!(plan.peak_bytes < 4 << 30, "{}", bytes(plan.peak_bytes as f64));
        assert_eq!(plan.kernels.iter().map(|k| k.launches).sum::<u64>(), plan.launches);
    }

    #[test]
    fn amounts_are_readable() {
        let cases = [(0.0, "0 B"), (1023.0, "1023 B"), (1536.0, "1.50 KiB"), (3.0 * 1024f64.powi(3), "3.00 GiB")];
        let failed: Vec<_> = cases.iter().filter(|(count, want)| bytes(*count) != *want).collect();
        assert!(failed.is_empty(), "{failed:?}");
        assert_eq!((flops(999.0), flops(1.9e9)), ("999".to_owned(), "1.90 G".to_owned()));
    }
}
