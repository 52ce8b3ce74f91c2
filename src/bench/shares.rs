//! Where the time of a training step goes: every kernel's share of it, and of its own roof.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ceilings::Ceilings;
use super::roof::Load;
use super::step::synthetic;
use crate::device::{Context, KernelTime, LaunchTime, by_kernel};
use crate::error::Result;
use crate::train::config::RunConfig;
use crate::train::trainer::Trainer;

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
    /// The least time that the ceilings allow these launches, over the time measured.
    #[serde(default)]
    pub roof: Option<f64>,
}

/// Where the time of one step goes, by kernel, most first: the third step of a fresh model, so that nothing is compiled in it,
/// with every launch on its own between two timestamps, or by the wall where the device has none.
///
/// # Errors
/// `Error::Check` on the twins; what training reports.
pub fn profile(ctx: &Context, config: &RunConfig, ceilings: &Ceilings) -> Result<Vec<Share>> {
    let mut trainer = Trainer::new(ctx, config)?;
    let batch = synthetic(config, 4);
    trainer.step(&batch)?;
    trainer.step(&batch)?;
    Ok(shares(&ctx.profiled(|| trainer.step(&batch))?.1, ceilings))
}

/// Launches added up by kernel.
fn shares(launches: &[LaunchTime], ceilings: &Ceilings) -> Vec<Share> {
    let mut least = BTreeMap::<_, f64>::new();
    for l in launches {
        let load = Load::of_launch(l.kernel, l.flops, l.bytes.saturating_sub(l.written) as f64, l.written as f64);
        *least.entry(l.kernel).or_default() += load.least(ceilings).0;
    }
    let all = by_kernel(launches);
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
            roof: least.get(kernel).map(|least| over(*least, seconds)),
        }
    };
    let mut shares: Vec<_> = all.iter().map(share).collect();
    shares.sort_by(|a, b| b.ms.total_cmp(&a.ms));
    shares
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::bench::roof::tests::ceilings;

    #[test]
    fn kernels_are_held_against_their_own_roofs() {
        let launch = |kernel, flops, bytes, written, seconds| LaunchTime {
            kernel,
            variant: String::new(),
            groups: 1,
            flops,
            bytes,
            written,
            time: Duration::from_secs(seconds),
        };
        // Two seconds at 1,000 FLOP/s by matrices; twice two seconds at 20 B/s read.
        let made = [
            launch("matmul_cooperative", 2000.0, 2, 1, 8),
            launch("sum_squares", 1.0, 40, 0, 1),
            launch("sum_squares", 1.0, 40, 0, 7),
        ];
        let found = shares(&made, &ceilings(Some(1000.0)));
        let all: Vec<_> = found.iter().map(|s| (s.kernel.as_str(), s.launches, s.share, s.roof.unwrap())).collect();
        let mut all = all;
        all.sort_by(|a, b| a.0.cmp(b.0));
        assert_eq!(all, [("matmul_cooperative", 1, 0.5, 0.25), ("sum_squares", 2, 0.5, 0.5)]);
    }
}
