//! How the time of a training step grows with its batch and with its tokens.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::agreement::Agreement;
use super::step::{finite, synthetic};
use crate::device::Context;
use crate::error::Result;
use crate::train::config::RunConfig;
use crate::train::plan::{bytes, plan};
use crate::train::trainer::Trainer;

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

/// A step of one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Samples or tokens.
    pub size: usize,
    /// Milliseconds of a step by the wall, the shortest of some.
    pub ms: f64,
    /// What such a step was compared with before it was timed.
    pub checked: String,
}

/// How the time of a step grows with one of its sizes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Growth {
    /// `samples` or `tokens`.
    pub of: String,
    /// By size, smallest first.
    pub points: Vec<Point>,
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
/// `Error::Check` for a size at which the device disagrees with the twins; what training reports.
pub fn sweep(ctx: &Context, config: &RunConfig, limits: Limits, agreement: &mut Agreement) -> Result<[Growth; 2]> {
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
    Ok([grow(ctx, "samples", with_batch, half, agreement)?, grow(ctx, "tokens", with_tokens, half, agreement)?])
}

fn grow(
    ctx: &Context,
    of: &str,
    configs: impl Iterator<Item = (usize, RunConfig)>,
    limits: Limits,
    agreement: &mut Agreement,
) -> Result<Growth> {
    let start = Instant::now();
    let mut points: Vec<Point> = Vec::new();
    let mut stopped = "the end of the list".to_owned();
    for (size, config) in configs {
        let needs = plan(&config, Some(ctx.capabilities().clone()))?;
        let refused = needs.refused().map(|error| format!("{size} {of}: {error}"));
        let dear = (needs.peak_bytes > limits.bytes).then(|| {
            let [needed, allowed] = [needs.peak_bytes, limits.bytes].map(|all| bytes(all as f64));
            format!("{size} {of} need {needed}, --max-mib allows {allowed}")
        });
        if let Some(reason) = refused.or(dear) {
            stopped = reason;
            break;
        }
        // Five steps of a point, if it grows with its size.
        let last = points.last().map_or(0.0, |p| 1e-3 * p.ms * size as f64 / p.size as f64);
        if !points.is_empty() && start.elapsed().as_secs_f64() + 5.0 * last > limits.seconds {
            stopped = format!("{size} {of} would take longer than --max-seconds allows");
            break;
        }
        let (seconds, checked) = shortest(ctx, &config, agreement)?;
        points.push(Point { size, ms: 1e3 * seconds, checked });
        ctx.trim();
    }
    let exponent = exponent(&points.iter().map(|p| (p.size, p.ms)).collect::<Vec<_>>());
    Ok(Growth { of: of.to_owned(), points, exponent, stopped })
}

/// Seconds of the shortest of three steps after two, and what they were compared with before.
fn shortest(ctx: &Context, config: &RunConfig, agreement: &mut Agreement) -> Result<(f64, String)> {
    let mut trainer = Trainer::new(ctx, config)?;
    let batch = synthetic(config, 3);
    let ((), launches) = ctx.traced(|| trainer.step(&batch))?;
    let checked = agreement.check(ctx, config, &launches)?;
    trainer.step(&batch)?;
    finite(&trainer)?;
    let mut least = f64::INFINITY;
    for _ in 0..3 {
        let (_, timing) = ctx.timed(|| trainer.step(&batch))?;
        least = least.min(timing.wall.as_secs_f64());
    }
    Ok((least, checked))
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
    fn a_sweep_stops_at_its_limits() {
        let config = RunConfig::new(m2ae_tiny());
        let ctx = Context::cpu();
        let none =
            sweep(&ctx, &config, Limits { batch: 4, seconds: 1e9, bytes: 1 }, &mut Agreement::default()).unwrap();
        assert!(
            none.iter().all(|growth| growth.points.is_empty() && growth.stopped.contains("--max-mib allows 1 B")),
            "{none:?}"
        );
        let some = grow(
            &ctx,
            "samples",
            [(1, config.clone()), (2, config)].into_iter(),
            Limits { batch: 2, seconds: 1e-9, bytes: u64::MAX },
            &mut Agreement::default(),
        );
        // The first point has no prediction and is always made; the second is left out.
        let some = some.unwrap();
        assert_eq!((some.points.len(), some.points[0].checked.as_str()), (1, "the twins themselves"));
        assert!(some.points[0].ms > 0.0, "{some:?}");
    }
}
