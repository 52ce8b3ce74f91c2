//! Whole training steps on synthetic batches: how long, how much arithmetic, how much memory; and how cost grows.

use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::clock::{Effort, Spread};
use super::report::Quartiles;
use crate::data::Batch;
use crate::device::philox::{philox, uniform4};
use crate::device::{Context, KernelTime, by_kernel};
use crate::error::{Error, Result};
use crate::train::config::{Precision, RunConfig};
use crate::train::plan::{plan, prepare};
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
    /// Milliseconds that the host takes to hand a step with a prepared batch to an idle device, its waits for a full queue
    /// included.
    pub host_ms: f64,
    /// Milliseconds from before the device was opened to the end of the first step.
    pub first_ms: f64,
    /// Kernel launches of a step.
    pub launches: u64,
    /// Arithmetic of a step, in billions of operations.
    pub gflop: f64,
    /// Billions of operations a second.
    pub gflops: f64,
    /// Most bytes of the pool in use at once.
    pub pool_bytes: u64,
    /// From [`profile`], where it was asked for.
    #[serde(default)]
    pub kernels: Vec<Share>,
    /// Loss of the last step: a step that computes nothing finite is not timed.
    pub loss: f64,
}

/// A kernel's part of a step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Share {
    /// Stem of the shader.
    pub kernel: String,
    /// Launches.
    pub launches: u64,
    /// Milliseconds.
    pub ms: f64,
    /// Of all launches' time, from 0 to 1.
    pub share: f64,
    /// Billions of operations a second.
    pub gflops: f64,
    /// Billions of bytes a second, every tensor that is bound counted once.
    pub gbytes: f64,
}

impl Step {
    /// What two reports are compared by.
    #[must_use]
    pub fn key(&self) -> String {
        format!("step {} {} samples, {} tokens [{}]", self.model, self.samples, self.tokens, self.storage)
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

/// Trains a fresh model for as long as the effort asks. `opened` is when the caller began to open the device.
///
/// # Errors
/// `Error::NotFinite` when a loss is not finite; what training reports.
pub fn measure(ctx: &Context, config: &RunConfig, name: &str, effort: Effort, opened: Instant) -> Result<Step> {
    let preparation = prepare(ctx, config)?;
    let mut trainer = Trainer::new(ctx, config)?;
    let batches = feed(trainer.preparer(), [synthetic(config, 1), synthetic(config, 2)])?;
    let mut step = || trainer.step_prepared(batches.recv().map_err(|_| unfed("their thread has ended".into()))??);
    step()?;
    ctx.wait()?;
    drop(preparation);
    let first = opened.elapsed().as_secs_f64();
    let before = ctx.counters();
    step()?;
    ctx.wait()?;
    let after = ctx.counters();
    // From the third step on a recording is replayed: the fourth shows what the host is left with.
    step()?;
    ctx.wait()?;
    let start = Instant::now();
    step()?;
    let host = start.elapsed().as_secs_f64();
    ctx.wait()?;
    let seconds = start.elapsed().as_secs_f64().max(1e-6);
    let steps = ((effort.least / seconds).ceil() as usize).clamp(1, 64);
    let (mut gpu, mut wall) = (Vec::new(), Vec::new());
    for _ in 0..effort.rounds {
        let (_, timing) = ctx.timed(|| (0..steps).try_for_each(|_| step()))?;
        gpu.extend(timing.gpu.map(|time| time.as_secs_f64() / steps as f64));
        wall.push(timing.wall.as_secs_f64() / steps as f64);
    }
    let loss = f64::from(trainer.losses()?.total);
    if !loss.is_finite() {
        let advice = "check the device with `mmae doctor` and `mmae bench kernels`";
        return Err(Error::NotFinite { what: "the loss".into(), step: trainer.step_number(), advice });
    }
    let (wall, flops) = (Spread::of(wall), after.flops - before.flops);
    Ok(Step {
        model: name.to_owned(),
        samples: trainer.samples_per_step(),
        tokens: config.model.tokens(),
        storage: if config.train.precision == Precision::F16 { "f16" } else { "f32" }.to_owned(),
        ms: Quartiles::of(wall),
        gpu_ms: (!gpu.is_empty()).then(|| Quartiles::of(Spread::of(gpu))),
        host_ms: 1e3 * host,
        first_ms: 1e3 * first,
        launches: after.launches - before.launches,
        gflop: 1e-9 * flops,
        gflops: if wall.median > 0.0 { 1e-9 * flops / wall.median } else { 0.0 },
        pool_bytes: ctx.pool().peak,
        kernels: Vec::new(),
        loss,
    })
}
/// Where the time of one step goes, by kernel, most first: the third step of a fresh model, so that nothing is compiled in it,
/// with every launch in a pass of its own between two timestamps.
///
/// # Errors
/// `Error::Check` on a device without timestamps; what training reports.
pub fn profile(ctx: &Context, config: &RunConfig) -> Result<Vec<Share>> {
    let mut trainer = Trainer::new(ctx, config)?;
    let batch = synthetic(config, 4);
    trainer.step(&batch)?;
    trainer.step(&batch)?;
    let all = by_kernel(&ctx.profiled(|| trainer.step(&batch))?.1);
    let sum: f64 = all.values().map(|k| k.time.as_secs_f64()).sum();
    let share = |(kernel, k): (&&str, &KernelTime)| {
        let seconds = k.time.as_secs_f64();
        let over = |a: f64, b: f64| if b > 0.0 { a / b } else { 0.0 };
        Share {
            kernel: (*kernel).to_owned(),
            launches: k.launches,
            ms: 1e3 * seconds,
            share: over(seconds, sum),
            gflops: over(1e-9 * k.flops, seconds),
            gbytes: over(1e-9 * k.bytes as f64, seconds),
        }
    };
    let mut shares: Vec<_> = all.iter().map(share).collect();
    shares.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    Ok(shares)
}

/// What a sweep may use.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Largest batch.
    pub batch: usize,
    /// Most seconds for all of it; a point that would go beyond is left out.
    pub seconds: f64,
    /// Most bytes of the pool.
    pub bytes: u64,
}

/// How the time of a step grows with one of its sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct Growth {
    /// `samples` or `tokens`.
    pub of: &'static str,
    /// Size and seconds of a step, the shortest of some.
    pub points: Vec<(usize, f64)>,
    /// Slope of log time over log size, over the upper half of the points, where the device is full.
    pub exponent: Option<f64>,
    /// Why it stopped where it did.
    pub stopped: String,
}

/// Image tokens along a side: 49 to 784 in all.
const SIDES: [usize; 4] = [7, 14, 21, 28];

/// Doubles the batch, then, with the batch given, changes the number of image tokens.
///
/// # Errors
/// What training reports.
pub fn sweep(ctx: &Context, config: &RunConfig, limits: Limits) -> Result<[Growth; 2]> {
    let batches = (0..).map(|i| 1usize << i).take_while(|batch| *batch <= limits.batch);
    let with_batch = batches.map(|batch| {
        let mut point = config.clone();
        point.train.batch = batch;
        (batch, point)
    });
    let with_tokens = SIDES.into_iter().map(|side| {
        let mut point = config.clone();
        point.model.image_size = side * point.model.patch;
        (side * side, point)
    });
    let half = Limits { seconds: limits.seconds / 2.0, ..limits };
    Ok([grow(ctx, "samples", with_batch, half)?, grow(ctx, "tokens", with_tokens, half)?])
}

fn grow(
    ctx: &Context,
    of: &'static str,
    configs: impl Iterator<Item = (usize, RunConfig)>,
    limits: Limits,
) -> Result<Growth> {
    let start = Instant::now();
    let mut points: Vec<(usize, f64)> = Vec::new();
    let mut stopped = "the end of the list".to_owned();
    for (size, config) in configs {
        let needs = plan(&config, Some(ctx.capabilities().clone()))?;
        let refused = needs.refused().map(|error| format!("{size} {of}: {error}"));
        let dear = (needs.peak_bytes > limits.bytes).then(|| format!("{size} {of} need {} bytes", needs.peak_bytes));
        if let Some(reason) = refused.or(dear) {
            stopped = reason;
            break;
        }
        // Five steps of a point, if it grows with its size.
        let last = points.last().map_or(0.0, |(before, seconds)| seconds * size as f64 / *before as f64);
        if !points.is_empty() && start.elapsed().as_secs_f64() + 5.0 * last > limits.seconds {
            stopped = format!("{size} {of} would take longer than allowed");
            break;
        }
        points.push((size, shortest(ctx, &config)?));
        ctx.trim();
    }
    let exponent = exponent(&points);
    Ok(Growth { of, points, exponent, stopped })
}

/// The shortest of three steps after two.
fn shortest(ctx: &Context, config: &RunConfig) -> Result<f64> {
    let mut trainer = Trainer::new(ctx, config)?;
    let batch = synthetic(config, 3);
    let mut least = f64::INFINITY;
    for i in 0..5 {
        let (_, timing) = ctx.timed(|| trainer.step(&batch))?;
        if i >= 2 {
            least = least.min(timing.wall.as_secs_f64());
        }
    }
    Ok(least)
}

/// Least-squares slope of log time over log size, over the upper half of the points (at least two).
#[must_use]
pub fn exponent(points: &[(usize, f64)]) -> Option<f64> {
    let upper = &points[(points.len() / 2).min(points.len().saturating_sub(2))..];
    let logs: Vec<_> = upper.iter().filter(|p| p.1 > 0.0).map(|(n, t)| ((*n as f64).ln(), t.ln())).collect();
    let n = logs.len() as f64;
    let mean = |of: fn(&(f64, f64)) -> f64| logs.iter().map(of).sum::<f64>() / n;
    let (x, y) = (mean(|p| p.0), mean(|p| p.1));
    let covariance: f64 = logs.iter().map(|p| (p.0 - x) * (p.1 - y)).sum();
    let variance: f64 = logs.iter().map(|p| (p.0 - x).powi(2)).sum();
    (logs.len() >= 2 && variance > 0.0).then(|| covariance / variance)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::m2ae_tiny;

    #[test]
    fn exponents_of_known_curves() {
        let curve = |power: f64, constant: f64| {
            let points: Vec<_> =
                (0..7).map(|i| (1usize << i, constant + 1e-3 * f64::from(1 << i).powf(power))).collect();
            exponent(&points).unwrap()
        };
        let cases = [(1.0, 0.0, 1.0), (2.0, 0.0, 2.0), (0.5, 0.0, 0.5), (0.0, 1.0, 0.0)];
        let wrong: Vec<_> = cases
            .into_iter()
            .map(|(power, constant, want)| (want, curve(power, constant)))
            .filter(|(want, got)| (want - got).abs() > 1e-9)
            .collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        // A constant part hides growth at small sizes: the upper half sees it.
        assert!(curve(1.0, 1e-3) > 0.9);
        assert_eq!((exponent(&[]), exponent(&[(1, 1.0)])), (None, None));
    }

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
        let found = measure(&ctx, &config, "m2ae-tiny", effort, Instant::now()).unwrap();
        assert!(
            found.launches > 10 && found.gflop > 0.0 && found.loss.is_finite() && found.pool_bytes > 0,
            "{found:?}"
        );
        assert!(found.first_ms > 0.0 && found.ms.low <= found.ms.high, "{found:?}");
    }

    #[test]
    fn a_sweep_stops_at_its_limits() {
        let config = RunConfig::new(m2ae_tiny());
        let ctx = Context::cpu();
        let none = sweep(&ctx, &config, Limits { batch: 4, seconds: 1e9, bytes: 1 }).unwrap();
        assert!(none.iter().all(|growth| growth.points.is_empty() && growth.stopped.contains("bytes")), "{none:?}");
        let some = grow(
            &ctx,
            "samples",
            [(1, config.clone()), (2, config)].into_iter(),
            Limits { batch: 2, seconds: 1e-9, bytes: u64::MAX },
        );
        // The first point has no prediction and is always made; the second is left out.
        assert_eq!(some.unwrap().points.len(), 1);
    }
}
