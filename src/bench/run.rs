//! Runs: calibrate, measure the ceilings, then every case, correct before fast; calibrate again.

use std::sync::Arc;

use super::calibrate::{Calibration, calibrate};
use super::case::{Case, Work};
use super::cases::{self, Shapes};
use super::ceilings::{Ceilings, ceilings};
use super::clock::{DeviceClock, Effort};
use super::foreign::Foreign;
use super::measure::measure;
use super::oracle::{Verdict, verdict};
use super::report::{Device, OWN, Report, Row, SCHEMA, Times, build, rank, variant};
use super::roof::Load;
use crate::device::{Context, Substitute};
use crate::error::Result;
use crate::kernels::ALL;
use crate::shape::DType;
use crate::tensor::Tensor;

/// What to measure.
pub struct Options<'a> {
    /// Only cases whose kernel and label contain this, in large or small letters.
    pub filter: Option<String>,
    /// Storages of stored tensors.
    pub dtypes: Vec<DType>,
    /// Shapes.
    pub shapes: &'a Shapes,
    /// How long and how often.
    pub effort: Effort,
    /// Texts beside those of the kernels; with any, only the cases of their kernels run.
    pub texts: Vec<Foreign>,
    /// The command line, for the report.
    pub command: String,
}

/// What happens while a run goes on.
pub enum Event<'a> {
    /// Device, first calibration, ceilings.
    Start(&'a Report),
    /// A case has been measured, or found wrong.
    Row(&'a Row),
    /// A case will not be measured.
    Skipped(&'a str),
}

/// An empty report on this device, with the clocks tried once.
///
/// # Errors
/// What the device reports.
pub fn begin(ctx: &Context, clock: &DeviceClock, effort: Effort, command: &str) -> Result<Report> {
    let first = calibrate(ctx, clock, effort)?;
    Ok(Report {
        schema: SCHEMA,
        version: env!("CARGO_PKG_VERSION").into(),
        build: build().into(),
        command: command.into(),
        time: crate::train::run_dir::now(),
        device: Device::of(ctx),
        rounds: effort.rounds,
        round_ms: 1e3 * effort.least,
        calibration: vec![first],
        trusted: first.trusted(),
        ceilings: None,
        cases: Vec::new(),
        steps: Vec::new(),
        growths: Vec::new(),
        skipped: Vec::new(),
    })
}

/// Tries the clocks once more, at the end.
///
/// # Errors
/// What the device reports.
pub fn end(ctx: &Context, clock: &DeviceClock, effort: Effort, report: &mut Report) -> Result<()> {
    report.calibration.push(calibrate(ctx, clock, effort)?);
    report.trusted = report.calibration.iter().all(Calibration::trusted);
    Ok(())
}

/// The device alone.
///
/// # Errors
/// What the device reports; `Error::Check` when a probe is wrong.
pub fn device(ctx: &Context, effort: Effort, command: &str) -> Result<Report> {
    let clock = DeviceClock::new(ctx);
    let mut report = begin(ctx, &clock, effort, command)?;
    report.ceilings = Some(ceilings(ctx, &clock, effort)?);
    end(ctx, &clock, effort, &mut report)?;
    Ok(report)
}

/// The device, then every case that the options name.
///
/// # Errors
/// What the device reports. A wrong result is no error here: it is a row without times.
pub fn kernels(ctx: &Context, options: &Options<'_>, tell: &mut dyn FnMut(Event<'_>)) -> Result<Report> {
    let clock = DeviceClock::new(ctx);
    let mut report = begin(ctx, &clock, options.effort, &options.command)?;
    let found = ceilings(ctx, &clock, options.effort)?;
    report.ceilings = Some(found.clone());
    tell(Event::Start(&report));
    every_case(ctx, &clock, &found, options, &mut report, tell)?;
    end(ctx, &clock, options.effort, &mut report)?;
    Ok(report)
}

/// Measures every case that the options name into a report.
pub(super) fn every_case(
    ctx: &Context,
    clock: &DeviceClock,
    ceilings: &Ceilings,
    options: &Options<'_>,
    report: &mut Report,
    tell: &mut dyn FnMut(Event<'_>),
) -> Result<()> {
    let bench = Bench { ctx, clock, options, ceilings };
    for case in &options.cases() {
        for &dtype in options.dtypes.iter().filter(|dtype| depends_on(case.kernel, **dtype)) {
            match bench.case(case, dtype)? {
                Ok(rows) => {
                    rows.iter().for_each(|row| tell(Event::Row(row)));
                    report.cases.extend(rows);
                }
                Err(reason) => {
                    tell(Event::Skipped(&reason));
                    report.skipped.push(reason);
                }
            }
        }
    }
    Ok(())
}

impl Options<'_> {
    /// The cases that they name.
    #[must_use]
    pub fn cases(&self) -> Vec<Case> {
        cases::all(self.shapes).into_iter().filter(|case| self.wants(case)).collect()
    }

    fn wants(&self, case: &Case) -> bool {
        let named = self.filter.as_ref().is_none_or(|text| case.name().to_lowercase().contains(&text.to_lowercase()));
        named && (self.texts.is_empty() || self.texts.iter().any(|text| text.like == case.kernel))
    }
}

/// Whether a kernel's text has a form for halves: others are measured once.
fn depends_on(kernel: &str, dtype: DType) -> bool {
    let found = ALL.iter().map(|e| e.kernel).find(|k| k.name == kernel);
    dtype == DType::F32 || found.is_some_and(|k| k.is_stored() || k.has_output())
}

struct Bench<'a> {
    ctx: &'a Context,
    clock: &'a DeviceClock,
    options: &'a Options<'a>,
    ceilings: &'a Ceilings,
}

/// A text that takes part in a case, and what the check said about it.
struct Entrant<'a> {
    name: String,
    traced_as: &'static str,
    substitute: Option<&'a Arc<Substitute>>,
    verdict: Verdict,
}

impl Bench<'_> {
    /// One row for each text, the fastest first; or why there is none.
    fn case(&self, case: &Case, dtype: DType) -> Result<Result<Vec<Row>, String>> {
        let allowed = self.ctx.capabilities().max_binding as f64;
        if case.bytes(dtype) > allowed {
            return Ok(Err(format!("{}: {:.0} bytes, one binding holds {allowed:.0}", case.name(), case.bytes(dtype))));
        }
        let entrants = self.entrants(case, dtype)?;
        let right: Vec<_> = entrants.iter().filter(|e| e.verdict.wrong.is_empty()).map(|e| e.substitute).collect();
        let (flops, bytes) = (case.flops, case.bytes(dtype));
        let load = |verdict: &Verdict| Load::of_case(flops, bytes, verdict.written as f64, &verdict.launches);
        // Where memory is what limits one of them, none may be flattered by a cache.
        let rotate = entrants.iter().any(|e| load(&e.verdict).least(self.ceilings).1.is_memory());
        let effort = self.options.effort;
        let mut timings = measure(case, self.ctx, self.clock, effort, dtype, &right, rotate)?.into_iter();
        let row = |entrant: &Entrant<'_>| {
            let timing = if entrant.verdict.wrong.is_empty() { timings.next() } else { None };
            Row {
                kernel: case.kernel.into(),
                case: case.label.clone(),
                text: entrant.name.clone(),
                storage: dtype.to_string(),
                variant: variant(entrant.traced_as, &entrant.verdict.launches),
                checked: entrant.verdict.how.clone(),
                wrong: entrant.verdict.wrong.clone(),
                flops,
                bytes,
                times: timing.map(|timing| Times::of(&timing, &load(&entrant.verdict), self.ceilings)),
            }
        };
        let mut rows: Vec<_> = entrants.iter().map(row).collect();
        if rows.len() > 1 {
            rank(&mut rows);
        }
        Ok(Ok(rows))
    }

    /// The kernel's own text, and those of the others that cover this case.
    fn entrants(&self, case: &Case, dtype: DType) -> Result<Vec<Entrant<'_>>> {
        let own = self.check(case, dtype, None)?;
        let mut entrants = vec![Entrant { name: OWN.into(), traced_as: case.kernel, substitute: None, verdict: own }];
        let takes = |text: &&Foreign| text.like == case.kernel && (dtype == DType::F16 || !text.halves_only());
        for text in self.options.texts.iter().filter(takes) {
            let verdict = self.check(case, dtype, Some(&text.substitute))?;
            // A launch that the text does not cover runs the kernel's own: that is no row of this text.
            if verdict.launches.iter().any(|launch| launch.kernel == text.traced_as()) {
                let (name, substitute) = (text.name.clone(), Some(&text.substitute));
                entrants.push(Entrant { name, traced_as: text.traced_as(), substitute, verdict });
            }
        }
        Ok(entrants)
    }

    fn check(&self, case: &Case, dtype: DType, text: Option<&Arc<Substitute>>) -> Result<Verdict> {
        let run = |work: &Work| -> Result<Vec<Tensor>> { self.ctx.substituting(text, || work.run(self.ctx)) };
        verdict(case, self.ctx, dtype, &run)
    }
}
