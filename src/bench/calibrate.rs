//! Whether the clocks can be believed: twice the work must read as twice the time.

use serde::{Deserialize, Serialize};

use super::clock::{Clock, Effort, Reading, repetitions};
use super::probes;
use crate::device::Context;
use crate::error::Result;
use crate::shape::DType;
use crate::tensor::Tensor;

/// What "twice" may read as. Wide enough for a machine that others use too, far too narrow for a clock that stands still,
/// jumps, or counts something else.
pub const BAND: (f64, f64) = (1.75, 2.25);

/// How often each is measured, and how long at least. The shortest time of each counts: what disturbs a round only makes it
/// longer, and many short rounds find more moments without disturbance than a few long ones.
const ROUNDS: usize = 25;
const LEAST: f64 = 5e-3;

/// What twice the work read as, by each clock: twice the launches, and twice the loop inside one launch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Calibration {
    /// Time of 2n launches over that of n, by the device's clock.
    pub launches_gpu: Option<f64>,
    /// The same by the wall.
    pub launches_wall: f64,
    /// Time of a loop of 2n over that of n, by the device's clock.
    pub loop_gpu: Option<f64>,
    /// The same by the wall.
    pub loop_wall: f64,
}

impl Calibration {
    /// Whether the clock that the report uses (the device's where it has one) stayed inside [`BAND`].
    #[must_use]
    pub fn trusted(&self) -> bool {
        let inside = |ratio: f64| (BAND.0..=BAND.1).contains(&ratio);
        inside(self.launches_gpu.unwrap_or(self.launches_wall)) && inside(self.loop_gpu.unwrap_or(self.loop_wall))
    }

    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let gpu = |ratio: Option<f64>| ratio.map_or("-".into(), |r| format!("{r:.2}"));
        let verdict = if self.trusted() {
            "trusted".to_owned()
        } else {
            format!("NOT TO BE TRUSTED: must lie within {}..{}", BAND.0, BAND.1)
        };
        format!(
            "twice the launches read {} (device) and {:.2} (wall), twice the loop {} and {:.2}: {verdict}",
            gpu(self.launches_gpu),
            self.launches_wall,
            gpu(self.loop_gpu),
            self.loop_wall
        )
    }
}

/// Measures multiply-adds in registers once, with twice the launches, and with twice the loop, in turns.
///
/// # Errors
/// What the device reports.
pub fn calibrate(ctx: &Context, clock: &dyn Clock, effort: Effort) -> Result<Calibration> {
    let (cells, steps) = if ctx.wgpu().is_none() {
        (64, 16)
    } else if ctx.capabilities().software {
        (1 << 12, 64)
    } else {
        (1 << 18, 256)
    };
    let y = Tensor::empty(ctx, &[4 * cells], DType::F32)?;
    let mut once = |_: usize| probes::fma(ctx, &y, steps, probes::FORMS[0]).map(|_| ());
    let mut longer = |_: usize| probes::fma(ctx, &y, 2 * steps, probes::FORMS[0]).map(|_| ());
    let effort = Effort { least: effort.least.min(LEAST), ..effort };
    let count = repetitions(clock, effort, 1, &mut once)?;
    let mut least = [Reading { gpu: None, wall: f64::INFINITY }; 3];
    for _ in 0..ROUNDS {
        let all = [clock.time(count, &mut once)?, clock.time(2 * count, &mut once)?, clock.time(count, &mut longer)?];
        for (least, reading) in least.iter_mut().zip(all) {
            least.wall = least.wall.min(reading.wall);
            least.gpu = least.gpu.into_iter().chain(reading.gpu).reduce(f64::min);
        }
    }
    let [single, twice, long] = least;
    let gpu = |a: Reading| a.gpu.zip(single.gpu).map(|(a, b)| ratio(a, b));
    Ok(Calibration {
        launches_gpu: gpu(twice),
        launches_wall: ratio(twice.wall, single.wall),
        loop_gpu: gpu(long),
        loop_wall: ratio(long.wall, single.wall),
    })
}

/// a / b; 0, which no band holds, where there is no such number.
fn ratio(a: f64, b: f64) -> f64 {
    if b > 0.0 { a / b } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts the arithmetic of the launches it is given and makes a time of it.
    struct Planted {
        context: Context,
        time: fn(f64) -> f64,
        gpu: bool,
    }

    impl Clock for Planted {
        fn time(&self, count: usize, work: &mut dyn FnMut(usize) -> Result<()>) -> Result<Reading> {
            let before = self.context.counters().flops;
            (0..count).try_for_each(work)?;
            let seconds = (self.time)((self.context.counters().flops - before) * 1e-9);
            Ok(Reading { gpu: self.gpu.then_some(seconds), wall: seconds })
        }
    }

    #[test]
    fn clocks_that_lie_are_not_trusted() {
        type Time = fn(f64) -> f64;
        let cases: [(&str, Time, bool); 6] = [
            ("an honest one", |work| work, true),
            ("one with a small constant part", |work| work + 1e-4, true),
            ("one that stands still", |_| 0.05, false),
            ("one that reads zero", |_| 0.0, false),
            ("one that counts squares", |work| work * work, false),
            ("one with a coarse tick", |work| (work / 0.1).floor() * 0.1, false),
        ];
        let mut wrong = Vec::new();
        for (name, time, trusted) in cases {
            for gpu in [false, true] {
                let context = Context::dry(None);
                let clock = Planted { context: context.clone(), time, gpu };
                let found = calibrate(&context, &clock, Effort { rounds: 1, least: 0.01 }).unwrap();
                if found.trusted() != trusted || found.line().contains("NOT TO BE TRUSTED") == trusted {
                    wrong.push((name, gpu, found));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }
}
