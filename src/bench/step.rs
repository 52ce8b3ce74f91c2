//! Whole training steps on synthetic batches: how long, how much arithmetic, how much memory.

use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::agreement::Agreement;
use super::ceilings::Ceilings;
use super::clock::{Effort, Spread};
use super::report::Quartiles;
use super::roof::least_of;
use super::shares::Share;
use crate::data::Batch;
use crate::device::philox::{philox, uniform4};
use crate::device::{Context, Launched};
use crate::error::{Error, Result};
use crate::train::config::{Precision, RunConfig};
use crate::train::plan::prepare;
use crate::train::prepared::{Prepared, Preparer};
use crate::train::trainer::Trainer;

/// Steps of one configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Preset and what was set beside it.
    pub model: String,
    /// Samples of a step.
    pub samples: usize,
    /// Image tokens of a sample.
    pub tokens: usize,
    /// Storage of activations.
    pub storage: String,
    /// Milliseconds of a step, several in a row, by the wall.
    pub ms: Quartiles,
    /// The same by the device's clock.
    pub gpu_ms: Option<Quartiles>,
    /// Milliseconds that the host works to hand a step with a prepared batch to an idle device: median, without the waits for room
    /// in the device's queue.
    pub host_ms: f64,
    /// Milliseconds of those waits: median.
    #[serde(default)]
    pub wait_ms: f64,
    /// Milliseconds from before the device was opened to the end of the first step.
    pub first_ms: f64,
    /// Kernel launches of a step.
    pub launches: u64,
    /// Arithmetic of a step, in billions of operations.
    pub gflop: f64,
    /// Billions of operations a second.
    pub gflops: f64,
    /// Milliseconds that the launches take at least, one after the other, each under its own roof.
    #[serde(default)]
    pub least_ms: Option<f64>,
    /// That over the time measured, on the clock in use.
    #[serde(default)]
    pub roof: Option<f64>,
    /// What the step was compared with before it was timed.
    #[serde(default)]
    pub checked: String,
    /// Most bytes of the pool in use at once.
    pub pool_bytes: u64,
    /// From [`profile`](super::shares::profile), where it was asked for.
    #[serde(default)]
    pub kernels: Vec<Share>,
    /// What timed the kernels: `device`, or `wall`, which adds a submission to each launch.
    #[serde(default)]
    pub kernels_by: Option<String>,
    /// Loss of the last step: a step that computes nothing finite is not timed.
    pub loss: f64,
}

impl Step {
    /// What two reports are compared by.
    #[must_use]
    pub fn key(&self) -> String {
        format!("step {} {} samples, {} tokens [{}]", self.model, self.samples, self.tokens, self.storage)
    }

    /// Holds the step against what its launches take at least on such a device.
    pub fn hold_against(&mut self, ceilings: &Ceilings, launches: &[Launched]) {
        let (least, time) = (1e3 * least_of(launches, ceilings), self.gpu_ms.unwrap_or(self.ms).median);
        self.least_ms = Some(least);
        self.roof = (time > 0.0).then(|| least / time);
    }
}

/// Images of uniform noise and captions of random tokens, of different lengths; every sample has both.
#[must_use]
pub fn synthetic(config: &RunConfig, seed: u32) -> Batch {
    let (model, size) = (&config.model, config.train.batch * config.train.micro_batches);
    let draw = |stream: u32, i: usize| philox([i as u32, stream, 0, 0], [seed, 1]);
    let pixels = size * model.pixels();
    let image = (0..pixels.div_ceil(4)).flat_map(|i| uniform4(draw(0, i))).take(pixels).collect();
    let length = model.text_length;
    let token = |i: usize| {
        let written = length / 2 + draw(1, i / length)[0] as usize % length.div_ceil(2);
        // 0 is padding.
        if i % length < written { 1 + draw(2, i)[0] % (model.vocab as u32 - 1) } else { 0 }
    };
    Batch {
        size,
        image,
        tokens: (0..size * length).map(token).collect(),
        has_image: vec![true; size],
        has_text: vec![true; size],
        captions: vec![String::new(); size],
        ids: (0..size).map(|i| i.to_string()).collect(),
        indices: (0..size).collect(),
        skipped: Vec::new(),
    }
}

/// Batches in turns, made ready by a thread of their own as the workers of a data loader do. It ends when nobody takes them.
fn feed(preparer: Preparer, batches: [Batch; 2]) -> Result<Receiver<Result<Prepared>>> {
    let (to, from) = sync_channel(2);
    let work = move || {
        let _ = batches.iter().cycle().try_for_each(|batch| to.send(preparer.prepare(batch)));
    };
    let thread = std::thread::Builder::new().name("feed".into()).spawn(work);
    thread.map(|_| from).map_err(|error| unfed(error.to_string()))
}

fn unfed(detail: String) -> Error {
    Error::Check { what: "preparing batches".into(), detail }
}

/// A trainer with batches made ready for it.
struct Run {
    ctx: Context,
    trainer: Trainer,
    batches: Receiver<Result<Prepared>>,
}

impl Run {
    fn batch(&self) -> Result<Prepared> {
        self.batches.recv().map_err(|_| unfed("their thread has ended".into()))?
    }

    fn step(&mut self) -> Result<()> {
        let batch = self.batch()?;
        self.trainer.step_prepared(batch)
    }

    /// Seconds that the host works for a step and that it waits within it, and seconds until the device is done. The batch is
    /// there and the device idle before.
    fn alone(&mut self) -> Result<[f64; 3]> {
        self.ctx.wait()?;
        let (batch, before) = (self.batch()?, self.ctx.counters().waited);
        let start = Instant::now();
        self.trainer.step_prepared(batch)?;
        let handed = start.elapsed();
        let waited = self.ctx.counters().waited.saturating_sub(before);
        self.ctx.wait()?;
        let work = handed.saturating_sub(waited);
        Ok([work.as_secs_f64(), waited.as_secs_f64(), start.elapsed().as_secs_f64()])
    }

    /// Seconds of a step, several in a row between two waits for the device: by its clock, and by the wall.
    fn rounds(&mut self, effort: Effort, seconds: f64) -> Result<(Vec<f64>, Vec<f64>)> {
        let steps = ((effort.least / seconds.max(1e-6)).ceil() as usize).clamp(1, 64);
        let (mut gpu, mut wall) = (Vec::new(), Vec::new());
        for _ in 0..effort.rounds {
            let ctx = self.ctx.clone();
            let (_, timing) = ctx.timed(|| (0..steps).try_for_each(|_| self.step()))?;
            gpu.extend(timing.gpu.map(|time| time.as_secs_f64() / steps as f64));
            wall.push(timing.wall.as_secs_f64() / steps as f64);
        }
        Ok((gpu, wall))
    }
}

/// The loss of the last step.
///
/// # Errors
/// `Error::NotFinite`: a step that computes nothing is not timed.
pub(super) fn finite(trainer: &Trainer) -> Result<f64> {
    let loss = f64::from(trainer.losses()?.total);
    if loss.is_finite() {
        return Ok(loss);
    }
    let advice = "check the device with `mmae doctor` and `mmae bench kernels`";
    Err(Error::NotFinite { what: "the loss".into(), step: trainer.step_number(), advice })
}

/// Steps that the host's part is the median of.
const ALONE: usize = 5;

/// Trains a fresh model for as long as the effort asks, once steps of it agree with the twins. `opened` is when the caller began
/// to open the device. Beside the step: its launches.
///
/// # Errors
/// `Error::Check` where the device disagrees with the twins, `Error::NotFinite` when a loss is not finite; what training
/// reports.
pub fn measure(
    ctx: &Context,
    config: &RunConfig,
    name: &str,
    effort: Effort,
    opened: Instant,
    agreement: &mut Agreement,
) -> Result<(Step, Vec<Launched>)> {
    let preparation = prepare(ctx, config)?;
    let trainer = Trainer::new(ctx, config)?;
    let batches = feed(trainer.preparer(), [synthetic(config, 1), synthetic(config, 2)])?;
    let mut run = Run { ctx: ctx.clone(), trainer, batches };
    run.step()?;
    ctx.wait()?;
    drop(preparation);
    // Before the check, which would compile what this is to show.
    let first = opened.elapsed().as_secs_f64();
    let before = ctx.counters();
    let ((), launches) = ctx.traced(|| run.step())?;
    ctx.wait()?;
    let (after, pool) = (ctx.counters(), ctx.pool().peak);
    let checked = agreement.check(ctx, config, &launches)?;
    // From the third step on a recording is replayed: the host is left with that. Once to warm up.
    run.alone()?;
    let alone = (0..ALONE).map(|_| run.alone()).collect::<Result<Vec<_>>>()?;
    let [host, wait, seconds] = [0, 1, 2].map(|i| Spread::of(alone.iter().map(|each| each[i])).median);
    let (gpu, wall) = run.rounds(effort, seconds)?;
    let loss = finite(&run.trainer)?;
    let (wall, flops) = (Spread::of(wall), after.flops - before.flops);
    let step = Step {
        model: name.to_owned(),
        samples: run.trainer.samples_per_step(),
        tokens: config.model.tokens(),
        storage: if config.train.precision == Precision::F16 { "f16" } else { "f32" }.to_owned(),
        ms: Quartiles::of(wall),
        gpu_ms: (!gpu.is_empty()).then(|| Quartiles::of(Spread::of(gpu))),
        host_ms: 1e3 * host,
        wait_ms: 1e3 * wait,
        first_ms: 1e3 * first,
        launches: after.launches - before.launches,
        gflop: 1e-9 * flops,
        gflops: if wall.median > 0.0 { 1e-9 * flops / wall.median } else { 0.0 },
        least_ms: None,
        roof: None,
        checked,
        pool_bytes: pool,
        kernels: Vec::new(),
        kernels_by: None,
        loss,
    };
    Ok((step, launches))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::m2ae_tiny;

    #[test]
    fn synthetic_batches_fit_the_model() {
        let mut config = RunConfig::new(m2ae_tiny());
        config.train.batch = 3;
        config.train.micro_batches = 2;
        let batch = synthetic(&config, 1);
        assert_eq!((batch.size, batch.image.len()), (6, 6 * config.model.pixels()));
        assert_eq!(batch.tokens.len(), 6 * config.model.text_length);
        assert!(batch.tokens.iter().all(|t| (*t as usize) < config.model.vocab));
        assert!(batch.tokens.contains(&0) && batch.image.iter().all(|x| (0.0..1.0).contains(x)));
        assert_ne!(batch.image, synthetic(&config, 2).image);
    }

    #[test]
    fn a_step_is_measured_on_the_twins() {
        let mut config = RunConfig::new(m2ae_tiny());
        config.train.batch = 2;
        let ctx = Context::cpu();
        let effort = Effort { rounds: 3, least: 0.0 };
        let mut agreement = Agreement::default();
        let (mut found, launches) =
            measure(&ctx, &config, "m2ae-tiny", effort, Instant::now(), &mut agreement).unwrap();
        assert!(
            found.launches > 10 && found.gflop > 0.0 && found.loss.is_finite() && found.pool_bytes > 0,
            "{found:?}"
        );
        assert!(found.first_ms > 0.0 && found.ms.low <= found.ms.high, "{found:?}");
        assert_eq!((launches.len() as u64, found.roof, found.wait_ms), (found.launches, None, 0.0));
        assert!((launches.iter().map(|l| l.flops).sum::<f64>() * 1e-9 / found.gflop - 1.0).abs() < 1e-9);
        found.hold_against(&crate::bench::roof::tests::ceilings(None), &launches);
        assert!((found.roof.unwrap() * found.ms.median / found.least_ms.unwrap() - 1.0).abs() < 1e-9, "{found:?}");
    }
}
