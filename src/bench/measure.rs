//! Times of cases: several texts of one kernel in turns, over buffers that no cache holds where memory is what counts.

use std::sync::Arc;

use super::case::{Case, Work};
use super::clock::{Clock, Effort, Spread, repetitions};
use crate::device::{Context, Substitute};
use crate::error::Result;
use crate::shape::DType;
use crate::tensor::Tensor;

/// Times of one run, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Timing {
    /// Runs in one submission.
    pub repetitions: usize,
    /// Sets of buffers that the runs took in turn.
    pub sets: usize,
    /// Bytes of all these sets.
    pub rotated: f64,
    /// Whether they were to be larger than a cache and are not: a short case would need too many sets.
    pub in_cache: bool,
    /// By the device's clock.
    pub gpu: Option<Spread>,
    /// By the wall.
    pub wall: Spread,
}

impl Timing {
    /// By the device's clock where it has one.
    #[must_use]
    pub fn best(&self) -> Spread {
        self.gpu.unwrap_or(self.wall)
    }
}

/// Bytes beyond which no cache of such a device holds a working set.
#[must_use]
pub fn beyond_cache(ctx: &Context) -> u64 {
    match (ctx.wgpu().is_some(), ctx.capabilities().software) {
        (false, _) => 0,
        (true, true) => 96 << 20,
        (true, false) => 512 << 20,
    }
}

/// Sets of buffers that are made of one case at most.
const MOST_SETS: usize = 64;

/// Sets of so many bytes that are larger than a cache together, as far as that takes no more than [`MOST_SETS`].
fn sets(beyond: u64, bytes: f64) -> usize {
    ((beyond as f64 / bytes.max(1.0)).ceil() as usize).clamp(1, MOST_SETS)
}

/// Times a case with the kernel's own text (`None`) and with substitutes, one round of each after the other.
///
/// # Errors
/// What a launch or the device reports.
pub(crate) fn measure(
    case: &Case,
    ctx: &Context,
    clock: &dyn Clock,
    effort: Effort,
    dtype: DType,
    texts: &[Option<&Arc<Substitute>>],
    rotate: bool,
) -> Result<Vec<Timing>> {
    let beyond = if rotate { beyond_cache(ctx) } else { 0 };
    let sets = sets(beyond, case.bytes(dtype));
    let rotated = sets as f64 * case.bytes(dtype);
    let works = (0..sets).map(|set| (case.make)(ctx, dtype, 100 + set as u64)).collect::<Result<Vec<Work>>>()?;
    // Outputs are kept until their turn comes again: else the pool would hand out one buffer over and over.
    let mut kept: Vec<Vec<Tensor>> = (0..sets).map(|_| Vec::new()).collect();
    let mut once = |text: Option<&Arc<Substitute>>, i: usize| {
        let made = ctx.substituting(text, || works[i % sets].run(ctx))?;
        kept[i % sets] = made;
        Ok(())
    };
    let mut counts = Vec::new();
    for text in texts {
        counts.push(repetitions(clock, effort, sets, &mut |i| once(*text, i))?);
    }
    let mut readings = vec![Vec::new(); texts.len()];
    for _ in 0..effort.rounds {
        for ((text, count), all) in texts.iter().zip(&counts).zip(&mut readings) {
            let reading = clock.time(*count, &mut |i| once(*text, i))?;
            all.push((reading.gpu.map(|s| s / *count as f64), reading.wall / *count as f64));
        }
    }
    drop(works);
    ctx.trim();
    let timing = |(all, repetitions): (&Vec<(Option<f64>, f64)>, &usize)| {
        let gpu: Vec<_> = all.iter().filter_map(|(gpu, _)| *gpu).collect();
        Timing {
            repetitions: *repetitions,
            sets,
            rotated,
            in_cache: rotated < beyond as f64,
            gpu: (!gpu.is_empty()).then(|| Spread::of(gpu)),
            wall: Spread::of(all.iter().map(|(_, wall)| *wall)),
        }
    };
    Ok(readings.iter().zip(&counts).map(timing).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_leave_the_cache_behind_or_stop_at_their_number() {
        let cases = [(0, 1e3, 1), (96 << 20, 1e9, 1), (1000, 400.0, 3), (1000, 1000.0, 1), (1 << 20, 4.0, MOST_SETS)];
        let wrong: Vec<_> = cases.into_iter().filter(|(beyond, bytes, want)| sets(*beyond, *bytes) != *want).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}
