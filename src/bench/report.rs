//! What a run found, as JSON that two machines can exchange.

use serde::{Deserialize, Serialize};

use super::calibrate::Calibration;
use super::ceilings::Ceilings;
use super::clock::Spread;
use super::measure::Timing;
use super::step::Step;
use crate::device::{Context, Launched};

/// Version of the JSON schema in docs/bench.md.
pub const SCHEMA: u32 = 1;

/// One run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Version of this program.
    pub version: String,
    /// `release` or `debug`: how the host side was compiled.
    pub build: String,
    /// The command line.
    pub command: String,
    /// Seconds since 1970.
    pub time: u64,
    /// Where it ran.
    pub device: Device,
    /// Rounds of every measurement.
    pub rounds: usize,
    /// Milliseconds that a round lasts at least.
    pub round_ms: f64,
    /// What twice the work read as, at the start and at the end.
    pub calibration: Vec<Calibration>,
    /// Whether the clock can be believed.
    pub trusted: bool,
    /// What the device can do.
    pub ceilings: Option<Ceilings>,
    /// What kernels made of it.
    pub cases: Vec<Row>,
    /// Whole training steps.
    #[serde(default)]
    pub steps: Vec<Step>,
    /// What was not measured, and why.
    pub skipped: Vec<String>,
}

/// The device of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Adapter.
    pub adapter: String,
    /// Driver and its version.
    pub driver: String,
    /// vulkan, metal, dx12, or none on the twins.
    pub backend: String,
    /// Whether a processor plays the GPU.
    pub software: bool,
    /// Features in use.
    pub features: Vec<String>,
    /// How halves are stored.
    pub half: String,
}

impl Device {
    /// The device of a context.
    #[must_use]
    pub fn of(ctx: &Context) -> Self {
        let has = ctx.capabilities();
        let all = [
            ("f16", has.f16),
            ("subgroups", has.subgroups),
            ("immediates", has.immediates),
            ("timestamps", has.timestamps),
        ];
        Self {
            adapter: has.adapter.clone(),
            driver: has.driver.clone(),
            backend: has.backend.clone(),
            software: has.software,
            features: all.iter().filter(|(_, present)| *present).map(|(name, _)| (*name).to_owned()).collect(),
            half: has.half.name().to_owned(),
        }
    }
}

/// One text on one case.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Kernel.
    pub kernel: String,
    /// Shapes and form.
    pub case: String,
    /// Whose text: `mmae`, or a file.
    pub text: String,
    /// Storage of stored tensors.
    pub storage: String,
    /// Overrides that the launch chose, and what else it launched.
    pub variant: String,
    /// What the results were compared with.
    pub checked: String,
    /// Where they differ; empty when they are right. A wrong result has no times.
    pub wrong: Vec<String>,
    /// Arithmetic operations of one run.
    pub flops: f64,
    /// Bytes that one run must move.
    pub bytes: f64,
    /// Times, when the results are right.
    pub times: Option<Times>,
}

/// Times of one run of a case, in milliseconds, and what follows from the median.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Times {
    /// Runs in one submission.
    pub repetitions: usize,
    /// Sets of buffers that the runs took in turn.
    pub sets: usize,
    /// On the clock in use: the device's where it has one.
    pub ms: Quartiles,
    /// By the device's clock.
    pub gpu_ms: Option<Quartiles>,
    /// By the wall: submission and waiting included.
    pub wall_ms: Quartiles,
    /// Billions of operations a second.
    pub gflops: f64,
    /// Billions of bytes a second.
    pub gbytes: f64,
    /// Operations for each byte.
    pub intensity: f64,
    /// `arithmetic` or `memory`: which roof is the lower one here.
    pub bound: String,
    /// The least time that the ceilings allow, over the measured time.
    pub roof: f64,
}

/// Median and quartiles.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quartiles {
    /// A quarter of the rounds took at most this.
    pub low: f64,
    /// Median.
    pub median: f64,
    /// A quarter of the rounds took at least this.
    pub high: f64,
}

impl Quartiles {
    /// Of seconds.
    #[must_use]
    pub fn of(seconds: Spread) -> Self {
        Self { low: 1e3 * seconds.low, median: 1e3 * seconds.median, high: 1e3 * seconds.high }
    }
}

impl Times {
    /// From seconds of one run and what it did.
    #[must_use]
    pub fn of(timing: &Timing, flops: f64, bytes: f64, ceilings: &Ceilings) -> Self {
        let best = timing.best();
        let rate = |work: f64| if best.median > 0.0 { work / best.median * 1e-9 } else { 0.0 };
        let bound = if ceilings.memory_bound(flops, bytes) { "memory" } else { "arithmetic" };
        Self {
            repetitions: timing.repetitions,
            sets: timing.sets,
            ms: Quartiles::of(best),
            gpu_ms: timing.gpu.map(Quartiles::of),
            wall_ms: Quartiles::of(timing.wall),
            gflops: rate(flops),
            gbytes: rate(bytes),
            intensity: if bytes > 0.0 { flops / bytes } else { 0.0 },
            bound: bound.to_owned(),
            roof: if best.median > 0.0 { ceilings.least(flops, bytes) / best.median } else { 0.0 },
        }
    }
}

impl Row {
    /// Kernel, case, text and storage: what two reports are compared by.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{} {} [{}, {}]", self.kernel, self.case, self.text, self.storage)
    }
}

/// The overrides of the launch of `kernel`, and the names of other launches of the same run.
#[must_use]
pub fn variant(kernel: &str, launches: &[Launched]) -> String {
    let own = launches.iter().find(|l| l.kernel == kernel);
    let mut words: Vec<_> = own
        .into_iter()
        .flat_map(|l| &l.constants)
        .filter(|(name, _)| !name.starts_with("TRANS_"))
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    words.extend(launches.iter().filter(|l| l.kernel != kernel).map(|l| format!("+{}", l.kernel)));
    words.join(" ")
}

/// How this program was compiled.
#[must_use]
pub const fn build() -> &'static str {
    if cfg!(debug_assertions) { "debug" } else { "release" }
}
