//! Two reports side by side: ratios, and which of them moved beyond the spread.

use std::path::Path;

use super::ceilings::Ceilings;
use super::report::{Quartiles, Report, SCHEMA};
use super::step::Step;
use super::sweep::Growth;
use crate::error::{Error, Result};

/// A ratio nearer to 1 than this is noise, whatever the quartiles say.
const LEAST: f64 = 0.03;

/// One case in both reports.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    /// Kernel, shapes, text, storage.
    pub key: String,
    /// Milliseconds before and after.
    pub ms: (f64, f64),
    /// Time after over time before.
    pub ratio: f64,
    /// Whether the quartiles of the two do not meet.
    pub moved: bool,
}

/// A number without a spread in both reports.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// What it is, with its unit.
    pub name: String,
    /// Before and after.
    pub values: (f64, f64),
    /// After over before.
    pub ratio: f64,
}

/// What two reports say about each other.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Comparison {
    /// Cases that both have times for, in the order of the first.
    pub pairs: Vec<Pair>,
    /// Ceilings, and of steps what is measured once or few times, where both have them.
    pub figures: Vec<Figure>,
    /// Why the two should not be compared as they are.
    pub warnings: Vec<String>,
    /// Cases that only one of them has times for.
    pub alone: Vec<String>,
}

/// Reads a report.
///
/// # Errors
/// `Error::Io`, `Error::Data` for a file that is none.
pub fn read(path: &Path) -> Result<Report> {
    let text = std::fs::read_to_string(path).map_err(|e| Error::io("read", path, e))?;
    let none = |e: serde_json::Error| Error::data(path, format!("not a report of `mmae bench --json`: {e}"));
    let value: serde_json::Value = serde_json::from_str(&text).map_err(none)?;
    // Another schema has other fields: that is said, not the first one that is missing.
    match value.get("schema").and_then(serde_json::Value::as_u64) {
        Some(schema) if schema == u64::from(SCHEMA) => serde_json::from_value(value).map_err(none),
        Some(schema) => {
            let reason = format!("schema {schema}, this program reads {SCHEMA}; measure again with one version");
            Err(Error::data(path, reason))
        }
        None => Err(Error::data(path, "not a report of `mmae bench --json`: it has no schema")),
    }
}

fn apart(a: Quartiles, b: Quartiles) -> bool {
    a.high < b.low || b.high < a.low
}

/// Everything with a time: kernels, then steps.
fn timed(report: &Report) -> Vec<(String, Quartiles)> {
    let cases = report.cases.iter().filter_map(|row| Some((row.key(), row.times.as_ref()?.ms)));
    cases.chain(report.steps.iter().map(|step| (step.key(), step.ms))).collect()
}

/// The ceilings with their units, those that were measured.
fn of_device(c: &Ceilings) -> Vec<(String, f64)> {
    let mut all: Vec<_> = [
        ("multiply-add in registers, GFLOP/s", Some(1e-9 * c.fma)),
        ("loaded from f32 storage, GFLOP/s", Some(1e-9 * c.fma_stored_f32)),
        ("loaded from f16 storage, GFLOP/s", Some(1e-9 * c.fma_stored_f16)),
        ("cooperative matrices, GFLOP/s", c.matrix.map(|rate| 1e-9 * rate)),
        ("launch, us", Some(1e6 * c.launch)),
        ("recording, us", Some(1e6 * c.record)),
        ("submission, us", Some(1e6 * c.submit)),
        ("read-back, us", Some(1e6 * c.read_back)),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name.to_owned(), value?)))
    .collect();
    for b in &c.bandwidth {
        let size = super::text::bytes(b.bytes);
        all.extend([
            (format!("copy of {size}, GB/s"), 1e-9 * b.copy),
            (format!("read of {size}, GB/s"), 1e-9 * b.read),
        ]);
    }
    all
}

/// What a step has beside its time.
fn of_step(step: &Step) -> Vec<(String, f64)> {
    let key = step.key();
    let first = [("first step, ms", step.first_ms), ("host, ms", step.host_ms), ("pool, MiB", mebi(step.pool_bytes))];
    first.into_iter().map(|(name, value)| (format!("{key}: {name}"), value)).collect()
}

fn mebi(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// The points of sweeps.
fn of_growth(growth: &Growth) -> Vec<(String, f64)> {
    growth.points.iter().map(|p| (format!("step at {} {}, ms", p.size, growth.of), p.ms)).collect()
}

fn figures(report: &Report) -> Vec<(String, f64)> {
    let device = report.ceilings.iter().flat_map(of_device);
    device.chain(report.steps.iter().flat_map(of_step)).chain(report.growths.iter().flat_map(of_growth)).collect()
}

/// Compares `after` with `before`.
#[must_use]
pub fn compare(before: &Report, after: &Report) -> Comparison {
    let mut found = Comparison::default();
    for (which, report) in [("first", before), ("second", after)] {
        if !report.trusted {
            found.warnings.push(format!("the clock of the {which} run was not to be trusted"));
        }
    }
    for (what, a, b) in [
        ("adapters", &before.device.adapter, &after.device.adapter),
        ("drivers", &before.device.driver, &after.device.driver),
        ("versions", &before.version, &after.version),
    ] {
        if a != b {
            found.warnings.push(format!("different {what}: {a}; {b}"));
        }
    }
    let (timed, others) = (timed(before), timed(after));
    for (key, x) in &timed {
        let Some((_, y)) = others.iter().find(|(other, _)| other == key) else {
            found.alone.push(key.clone());
            continue;
        };
        let ratio = if x.median > 0.0 { y.median / x.median } else { 0.0 };
        let moved = apart(*x, *y) && (ratio - 1.0).abs() > LEAST;
        found.pairs.push(Pair { key: key.clone(), ms: (x.median, y.median), ratio, moved });
    }
    found.alone.extend(others.into_iter().map(|(key, _)| key).filter(|key| !timed.iter().any(|(k, _)| k == key)));
    let others = figures(after);
    for (name, x) in figures(before) {
        // Nothing was measured where there is zero.
        let other = others.iter().find(|(other, y)| *other == name && *y > 0.0);
        if let (Some((_, y)), true) = (other, x > 0.0) {
            found.figures.push(Figure { name, values: (x, *y), ratio: y / x });
        }
    }
    found
}

impl Comparison {
    /// A line for each pair, then what to know about them.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut lines = self.warnings.iter().map(|w| format!("warning: {w}")).collect::<Vec<_>>();
        let width = self.pairs.iter().map(|p| p.key.len()).max().unwrap_or(0);
        lines.push(format!("{:<width$} {:>9} {:>9} {:>7}", "case", "ms before", "after", "ratio"));
        for p in &self.pairs {
            let verdict = match (p.moved, p.ratio < 1.0) {
                (false, _) => "",
                (true, true) => "  faster",
                (true, false) => "  SLOWER",
            };
            let (a, b) = (super::text::short(p.ms.0), super::text::short(p.ms.1));
            lines.push(format!("{:<width$} {a:>9} {b:>9} {:>7.3}{verdict}", p.key, p.ratio));
        }
        let moved = self.pairs.iter().filter(|p| p.moved).count();
        lines.push(format!("{moved} of {} moved beyond the spread", self.pairs.len()));
        if !self.figures.is_empty() {
            let width = self.figures.iter().map(|f| f.name.len()).max().unwrap_or(0);
            lines.push(format!("{:<width$} {:>9} {:>9} {:>7}", "without a spread", "before", "after", "ratio"));
            for f in &self.figures {
                let (a, b) = (super::text::short(f.values.0), super::text::short(f.values.1));
                lines.push(format!("{:<width$} {a:>9} {b:>9} {:>7.3}", f.name, f.ratio));
            }
        }
        lines.extend(self.alone.iter().map(|key| format!("only in one of them: {key}")));
        lines.join("\n")
    }

    /// For machines.
    #[must_use]
    pub fn to_json(&self) -> serde_json::Value {
        let pair = |p: &Pair| {
            serde_json::json!({
                "case": p.key, "before_ms": p.ms.0, "after_ms": p.ms.1, "ratio": p.ratio, "moved": p.moved,
            })
        };
        let figure = |f: &Figure| serde_json::json!({ "name": f.name, "before": f.values.0, "after": f.values.1, "ratio": f.ratio });
        serde_json::json!({
            "figures": self.figures.iter().map(figure).collect::<Vec<_>>(),
            "cases": self.pairs.iter().map(pair).collect::<Vec<_>>(),
            "warnings": self.warnings,
            "only_in_one": self.alone,
        })
    }
}
