//! What a run found, as JSON that two machines can exchange.

use serde::{Deserialize, Serialize};

use super::calibrate::Calibration;
use super::ceilings::Ceilings;
use super::clock::Spread;
use super::measure::Timing;
use super::roof::Load;
use super::step::Step;
use super::sweep::Growth;
use crate::device::{Context, Kernel, Launched};
use crate::kernels::{attention_cooperative, matmul_cooperative};

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
    /// How the time of a step grows.
    #[serde(default)]
    pub growths: Vec<Growth>,
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
    /// Cooperative matrices: their size, and for products and attention what the self-test said; `none` without them.
    #[serde(default)]
    pub matrices: String,
    /// Invocations of a subgroup, where all subgroups have the same number.
    #[serde(default)]
    pub subgroup_size: Option<u32>,
    /// What kernels rely on of subgroups: `eight` lanes, any one `known` size, or `any`.
    #[serde(default)]
    pub lanes: String,
    /// Bytes of workgroup memory.
    #[serde(default)]
    pub workgroup_bytes: u32,
    /// Bytes of the largest window that one binding may show.
    #[serde(default)]
    pub max_binding: u64,
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
            ("int64", has.int64),
            ("pipeline cache", has.pipeline_cache),
            ("cooperative matrices", has.matrix.is_some()),
        ];
        Self {
            adapter: has.adapter.clone(),
            driver: has.driver.clone(),
            backend: has.backend.clone(),
            software: has.software,
            features: all.iter().filter(|(_, present)| *present).map(|(name, _)| (*name).to_owned()).collect(),
            half: has.half.name().to_owned(),
            matrices: matrices(ctx),
            subgroup_size: has.subgroup_size,
            lanes: has.lanes().name().to_owned(),
            workgroup_bytes: has.workgroup_bytes,
            max_binding: has.max_binding,
        }
    }
}

/// What is known about cooperative matrices: their size and the outcome of their tests, or why they are not used. Runs the
/// tests where that has not been done.
#[must_use]
pub fn matrices(context: &Context) -> String {
    let Some(matrix) = context.capabilities().matrix else { return "none".into() };
    let verdict = |usable: bool, kernel: &Kernel| match context.matrix_verdict(kernel.name) {
        Some(Err(wrong)) => format!("not used, the self-test failed ({wrong})"),
        _ if usable => "self-test passed".to_owned(),
        _ => "not used, no tile fits this device's workgroups".to_owned(),
    };
    let products = verdict(matmul_cooperative::available(context), &matmul_cooperative::KERNEL);
    let attention = verdict(attention_cooperative::available(context), &attention_cooperative::KERNEL);
    format!("{}; products: {products}; attention: {attention}", matrix.name())
}

/// Whose text a row is of when it is none of the reader's.
pub const OWN: &str = "mmae";

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
    /// Bytes of all these sets.
    #[serde(default)]
    pub rotated_bytes: f64,
    /// Whether those should be larger than a cache and are not: memory may be faster here than where caches do not help.
    #[serde(default)]
    pub in_cache: bool,
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
    /// Which roof is the lower one here: `arithmetic` (in registers), `matrix`, `memory` (copied) or `read`.
    pub bound: String,
    /// The least time that the ceilings allow, over the measured time.
    pub roof: f64,
    /// Time over that of mmae's own text in the same rounds, where texts are compared.
    #[serde(default)]
    pub beside_own: Option<f64>,
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
    pub fn of(timing: &Timing, load: &Load, ceilings: &Ceilings) -> Self {
        let (flops, bytes) = (load.flops + load.matrix_flops, load.read + load.written);
        let (least, bound) = load.least(ceilings);
        let best = timing.best();
        let rate = |work: f64| if best.median > 0.0 { work / best.median * 1e-9 } else { 0.0 };
        Self {
            repetitions: timing.repetitions,
            sets: timing.sets,
            rotated_bytes: timing.rotated,
            in_cache: timing.in_cache,
            ms: Quartiles::of(best),
            gpu_ms: timing.gpu.map(Quartiles::of),
            wall_ms: Quartiles::of(timing.wall),
            gflops: rate(flops),
            gbytes: rate(bytes),
            intensity: if bytes > 0.0 { flops / bytes } else { 0.0 },
            bound: bound.name().to_owned(),
            roof: if best.median > 0.0 { least / best.median } else { 0.0 },
            beside_own: None,
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

/// Ranks the texts of one case: the fastest first, what is wrong last, each with its time over that of mmae's own text.
pub fn rank(rows: &mut [Row]) {
    let median = |row: &Row| row.times.as_ref().map_or(f64::INFINITY, |t| t.ms.median);
    let own = rows.iter().find(|row| row.text == OWN).map_or(f64::INFINITY, median);
    for times in rows.iter_mut().filter_map(|row| row.times.as_mut()) {
        times.beside_own = (own.is_finite() && own > 0.0).then(|| times.ms.median / own);
    }
    rows.sort_by(|a, b| median(a).total_cmp(&median(b)));
}

/// The kernel that did most of the arithmetic, where it is not `kernel` itself; its overrides; the names of other launches.
#[must_use]
pub fn variant(kernel: &str, launches: &[Launched]) -> String {
    let main = launches.iter().position(|l| l.kernel == kernel);
    let most = || (0..launches.len()).max_by(|a, b| launches[*a].flops.total_cmp(&launches[*b].flops));
    let Some(main) = main.or_else(most) else { return String::new() };
    let mut words = Vec::new();
    if launches[main].kernel != kernel {
        words.push(launches[main].kernel.to_owned());
    }
    let set = launches[main].constants.iter().filter(|(name, _)| !name.starts_with("TRANS_"));
    words.extend(set.map(|(name, value)| format!("{name}={value}")));
    let others = launches.iter().enumerate().filter(|(i, _)| *i != main);
    words.extend(others.map(|(_, l)| format!("+{}", l.kernel)));
    words.join(" ")
}

/// How this program was compiled.
#[must_use]
pub const fn build() -> &'static str {
    if cfg!(debug_assertions) { "debug" } else { "release" }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A row of a made-up time, or a wrong one.
    fn row(text: &str, median: Option<f64>) -> Row {
        let of = |median: f64| Quartiles { low: median, median, high: median };
        let times = median.map(|median| Times {
            repetitions: 1,
            sets: 1,
            rotated_bytes: 0.0,
            in_cache: false,
            ms: of(median),
            gpu_ms: None,
            wall_ms: of(median),
            gflops: 0.0,
            gbytes: 0.0,
            intensity: 0.0,
            bound: String::new(),
            roof: 0.0,
            beside_own: None,
        });
        let empty = String::new;
        let (kernel, case, storage, variant, checked) = (empty(), empty(), empty(), empty(), empty());
        Row { kernel, case, text: text.into(), storage, variant, checked, wrong: vec![], flops: 0.0, bytes: 0.0, times }
    }

    #[test]
    fn texts_are_ranked_by_time() {
        let ranked = |rows: &[(&str, Option<f64>)]| {
            let mut rows: Vec<_> = rows.iter().map(|(text, median)| row(text, *median)).collect();
            rank(&mut rows);
            let beside = |row: &Row| row.times.as_ref().and_then(|t| t.beside_own);
            rows.iter().map(|row| (row.text.clone(), beside(row))).collect::<Vec<_>>()
        };
        let of = |text: &str, beside| (text.to_owned(), beside);
        let found = ranked(&[(OWN, Some(2.0)), ("slow", Some(3.0)), ("wrong", None), ("fast", Some(1.0))]);
        assert_eq!(found, [of("fast", Some(0.5)), of(OWN, Some(1.0)), of("slow", Some(1.5)), of("wrong", None)]);
        // Beside a kernel of ours that is wrong nothing has a ratio.
        assert_eq!(ranked(&[(OWN, None), ("mine", Some(1.0))]), [of("mine", None), of(OWN, None)]);
    }

    #[test]
    fn reports_of_earlier_versions_are_read() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/measurements");
        let mut read = 0;
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|e| e == "json") {
                crate::bench::compare::read(&path).unwrap();
                read += 1;
            }
        }
        assert!(read > 0);
    }
}
