//! What this device can do at best: multiply-adds, memory, launches. Every kernel's time is later a share of these.

use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::clock::{Clock, Effort, Spread, repetitions};
use super::probes;
use crate::device::Context;
use crate::error::{Error, Result};
use crate::kernels::{differences, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// Bandwidth at one size.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// Bytes of the tensor that is read.
    pub bytes: u64,
    /// Copy: bytes read plus bytes written, a second.
    pub copy: f64,
    /// Read: bytes read, and the few sums written, a second.
    pub read: f64,
}

/// The ceilings of a device. Rates a second, times in seconds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ceilings {
    /// Multiply-adds in registers, the best form, in FLOP/s.
    pub fma: f64,
    /// Which form that was.
    pub fma_form: String,
    /// Cells loaded from f32 storage, each used eight times, in FLOP/s.
    pub fma_stored_f32: f64,
    /// The same from half storage: load, convert, use.
    pub fma_stored_f16: f64,
    /// Cooperative-matrix multiply-adds, in FLOP/s; `None` where the context cannot use them.
    pub matrix: Option<f64>,
    /// By size, smallest first.
    pub bandwidth: Vec<Bandwidth>,
    /// One more launch inside a pass, on the clock in use.
    pub launch: f64,
    /// Recording one launch, on the host.
    pub record: f64,
    /// One submission with one launch, on the wall, with others in flight.
    pub submit: f64,
    /// Waiting for four bytes from an idle device.
    pub read_back: f64,
}

impl Ceilings {
    /// Copy rate of the largest size: the roof of tensors that no cache holds.
    #[must_use]
    pub fn copy(&self) -> f64 {
        self.bandwidth.last().map_or(0.0, |b| b.copy)
    }

    /// Read rate of the largest size.
    #[must_use]
    pub fn read(&self) -> f64 {
        self.bandwidth.last().map_or(0.0, |b| b.read)
    }
}

/// Measures everything, after checking the probes against their twins.
///
/// # Errors
/// `Error::Check` when a probe computes something else, else what the device reports.
pub fn ceilings(ctx: &Context, clock: &dyn Clock, effort: Effort) -> Result<Ceilings> {
    check(ctx)?;
    // Many forms, of which the best counts: fewer rounds of each will do.
    let effort = Effort { rounds: effort.rounds.min(3), ..effort };
    let (fma, fma_form) = registers(ctx, clock, effort)?;
    let bandwidth = sizes(ctx).into_iter().map(|bytes| bandwidth(ctx, clock, effort, bytes)).collect::<Result<_>>()?;
    let [launch, record, submit, read_back] = launches(ctx, clock, effort)?;
    Ok(Ceilings {
        fma,
        fma_form,
        fma_stored_f32: stored(ctx, clock, effort, DType::F32)?,
        fma_stored_f16: stored(ctx, clock, effort, DType::F16)?,
        matrix: matrix(ctx, clock, effort)?,
        bandwidth,
        launch,
        record,
        submit,
        read_back,
    })
}

/// Cells of an invocation from which on its one result is little beside what it reads.
const LONG: usize = 16;

/// Every probe in both storages.
fn check(ctx: &Context) -> Result<()> {
    let cpu = Context::cpu();
    let matrices = probes::matrices(ctx).map(probes::matrix_case);
    for case in probes::cases().into_iter().chain(matrices) {
        for dtype in [DType::F32, DType::F16] {
            let (got, want) = ((case.run)(ctx, dtype)?, (case.run)(&cpu, dtype)?);
            if let Some(wrong) = differences(&got, &want, case.tolerance, dtype, 1)?.first() {
                let what = format!("the probe `{}` in {dtype}", case.label);
                return Err(Error::Check { what, detail: wrong.clone() });
            }
        }
    }
    Ok(())
}

/// Median seconds of one call of `work`.
fn seconds(clock: &dyn Clock, effort: Effort, work: &mut dyn FnMut(usize) -> Result<()>) -> Result<f64> {
    let count = repetitions(clock, effort, 1, work)?;
    let rounds: Result<Vec<_>> = (0..effort.rounds).map(|_| clock.time(count, work).map(|r| r.best())).collect();
    Ok(Spread::of(rounds?).median / count as f64)
}

fn rate(work: f64, seconds: f64) -> f64 {
    if seconds > 0.0 { work / seconds } else { 0.0 }
}

/// Invocations and steps that keep every core of the device busy for about a millisecond.
fn load(ctx: &Context) -> (usize, usize) {
    match (ctx.wgpu().is_some(), ctx.capabilities().software) {
        (false, _) => (64, 8),
        (true, true) => (1 << 12, 64),
        (true, false) => (1 << 19, 128),
    }
}

/// FLOP/s of the best form, and its name.
fn registers(ctx: &Context, clock: &dyn Clock, effort: Effort) -> Result<(f64, String)> {
    let (cells, steps) = load(ctx);
    let y = Tensor::empty(ctx, &[4 * cells], DType::F32)?;
    let mut best = (0.0, String::new());
    for form in probes::FORMS {
        let flops = probes::fma(ctx, &y, steps, form)?;
        let time = seconds(clock, effort, &mut |_| probes::fma(ctx, &y, steps, form).map(|_| ()))?;
        if rate(flops, time) > best.0 {
            let spelling = if form.1 { "fma(x, a, b)" } else { "x * a + b" };
            best = (rate(flops, time), format!("{} vec4 in flight, {spelling}", form.0));
        }
    }
    Ok(best)
}

fn stored(ctx: &Context, clock: &dyn Clock, effort: Effort, dtype: DType) -> Result<f64> {
    let (cells, steps) = load(ctx);
    let table = probes::table(ctx, dtype)?;
    let y = Tensor::empty(ctx, &[4 * cells], DType::F32)?;
    let flops = probes::fma_stored(ctx, &table, &y, steps)?;
    let time = seconds(clock, effort, &mut |_| probes::fma_stored(ctx, &table, &y, steps).map(|_| ()))?;
    Ok(rate(flops, time))
}

/// FLOP/s of cooperative matrices, where kernels may use them.
fn matrix(ctx: &Context, clock: &dyn Clock, effort: Effort) -> Result<Option<f64>> {
    let Some(size) = probes::matrices(ctx) else { return Ok(None) };
    let (groups, steps) = if ctx.capabilities().software { (512, 32) } else { (1 << 14, 512) };
    let pair = probes::pair(ctx, size.0)?;
    let y = Tensor::empty(ctx, &[groups, size.0 * size.0], DType::F32)?;
    let flops = probes::products(ctx, &pair, &y, steps, size)?;
    let time = seconds(clock, effort, &mut |_| probes::products(ctx, &pair, &y, steps, size).map(|_| ()))?;
    Ok(Some(rate(flops, time)))
}

/// Bytes of the tensor read: from what any cache holds to what none does, as far as the device binds it.
fn sizes(ctx: &Context) -> Vec<u64> {
    let has = ctx.capabilities();
    let all: &[u64] = match (ctx.wgpu().is_some(), has.software) {
        (false, _) => &[64 << 10],
        (true, true) => &[256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20],
        (true, false) => &[256 << 10, 1 << 20, 4 << 20, 16 << 20, 64 << 20, 256 << 20, 1 << 30],
    };
    all.iter().copied().filter(|bytes| *bytes <= has.max_binding.min(has.max_buffer)).collect()
}

fn bandwidth(ctx: &Context, clock: &dyn Clock, effort: Effort, bytes: u64) -> Result<Bandwidth> {
    let elements = (bytes / 4) as usize;
    // Drawing a gigabyte on the host would take longer than all the rest: one draw, repeated on the device.
    let x = Tensor::empty(ctx, &[elements], DType::F32)?;
    let block = elements.min(1 << 20);
    let values = samples::normal(ctx, &[block], DType::F32, 5)?;
    for start in (0..elements).step_by(block) {
        x.window(start, &[block])?.copy_from(&values)?;
    }
    let y = Tensor::empty(ctx, &[elements], DType::F32)?;
    let (mut copy, mut read) = (0.0f64, 0.0f64);
    for form in probes::SWEEPS {
        let time = seconds(clock, effort, &mut |_| probes::copy(ctx, &x, &y, form))?;
        copy = copy.max(rate(2.0 * bytes as f64, time));
        if form.1 >= LONG {
            let sums = probes::sums(ctx, &x, form)?;
            let time = seconds(clock, effort, &mut |_| probes::read(ctx, &x, &sums, form))?;
            read = read.max(rate((bytes + sums.bytes()) as f64, time));
        }
    }
    Ok(Bandwidth { bytes, copy, read })
}

/// Seconds of one launch in a pass, of recording it, of a submission, of reading back four bytes.
fn launches(ctx: &Context, clock: &dyn Clock, effort: Effort) -> Result<[f64; 4]> {
    const FEW: usize = 32;
    const MANY: usize = 512;
    let y = Tensor::empty(ctx, &[4], DType::F32)?;
    let mut one = |_: usize| probes::nothing(ctx, &y);
    clock.time(MANY, &mut one)?;
    let mut launch = Vec::new();
    for _ in 0..effort.rounds {
        let (few, many) = (clock.time(FEW, &mut one)?.best(), clock.time(MANY, &mut one)?.best());
        launch.push((many - few).max(0.0) / (MANY - FEW) as f64);
    }
    let mut record = Vec::new();
    let mut submit = Vec::new();
    let mut read_back = Vec::new();
    for _ in 0..effort.rounds {
        ctx.wait()?;
        let start = Instant::now();
        (0..FEW).try_for_each(&mut one)?;
        record.push(start.elapsed().as_secs_f64() / FEW as f64);
        ctx.wait()?;
        let start = Instant::now();
        for _ in 0..FEW {
            probes::nothing(ctx, &y)?;
            ctx.submit()?;
        }
        ctx.wait()?;
        submit.push(start.elapsed().as_secs_f64() / FEW as f64);
        let start = Instant::now();
        y.to_f32()?;
        read_back.push(start.elapsed().as_secs_f64());
    }
    Ok([launch, record, submit, read_back].map(|all| Spread::of(all).median))
}
