//! Reports as text for people.

use super::ceilings::Ceilings;
use super::ladder::Rung;
use super::report::{Device, Report, Row};
use super::roof::Roof;

/// `1.5 GiB`, `12 KiB`.
#[must_use]
pub fn bytes(count: u64) -> String {
    let (mut value, mut unit) = (count, 0);
    while value >= 1024 && value.is_multiple_of(1024) && unit < 3 {
        (value, unit) = (value / 1024, unit + 1);
    }
    format!("{value} {}", ["B", "KiB", "MiB", "GiB"][unit])
}

/// Three digits: `0.123`, `12.3`, `1,230` without the comma.
#[must_use]
pub fn short(value: f64) -> String {
    let digits = if value == 0.0 { 0 } else { (2.0 - value.abs().log10().floor()).clamp(0.0, 5.0) as usize };
    format!("{value:.digits$}")
}

/// Adapter, driver, features.
#[must_use]
pub fn device(device: &Device) -> String {
    let features = if device.features.is_empty() { "none".into() } else { device.features.join(", ") };
    let subgroups = device.subgroup_size.map_or_else(|| "no one size".into(), |size| format!("of {size}"));
    format!(
        "adapter   {}\ndriver    {}\nbackend   {}{}\nfeatures  {features}; halves stored as {}\nlimits    subgroups {subgroups}, \
         lanes {}; {} workgroup memory; {} in one binding\nmatrices  {}",
        device.adapter,
        device.driver,
        device.backend,
        if device.software { ", software" } else { "" },
        device.half,
        device.lanes,
        bytes(device.workgroup_bytes.into()),
        bytes(device.max_binding),
        device.matrices
    )
}

/// The device's own limits.
#[must_use]
pub fn ceilings(found: &Ceilings) -> String {
    let giga = |rate: f64| short(rate * 1e-9);
    let micro = |seconds: f64| format!("{} us", short(seconds * 1e6));
    let mut lines = vec![
        format!("multiply-add, registers     {:>8} GFLOP/s  ({})", giga(found.fma), found.fma_form),
        format!("  loaded from f32 storage   {:>8} GFLOP/s  (each cell used 8 times)", giga(found.fma_stored_f32)),
        format!(
            "  loaded from f16 storage   {:>8} GFLOP/s  (converted, then used 8 times)",
            giga(found.fma_stored_f16)
        ),
        match found.matrix {
            Some(rate) => format!("  cooperative matrices      {:>8} GFLOP/s", giga(rate)),
            None => "  cooperative matrices      not available".into(),
        },
        format!("{:<27} {:>8} {:>9}", "GB/s by size of the tensor", "copy", "read"),
    ];
    for b in &found.bandwidth {
        lines.push(format!("  {:<25} {:>8} {:>9}", bytes(b.bytes), giga(b.copy), giga(b.read)));
    }
    lines.extend([
        format!("launch inside a pass        {:>11}", micro(found.launch)),
        format!("  recording it, host        {:>11}", micro(found.record)),
        format!("submission                  {:>11}", micro(found.submit)),
        format!("read-back of 4 bytes        {:>11}", micro(found.read_back)),
    ]);
    lines.join("\n")
}

/// The verdict on the clock.
#[must_use]
pub fn clock(report: &Report) -> String {
    let (used, wall) = ("by the device's timestamps", "by the wall: the device has no timestamps");
    let used = if report.device.features.iter().any(|f| f == "timestamps") { used } else { wall };
    let lines = report.calibration.iter().map(|c| format!("  {}", c.line())).collect::<Vec<_>>();
    let verdict = if report.trusted { "" } else { "\n  DO NOT TRUST THE TIMES OF THIS RUN" };
    format!(
        "clock     {used}; median of {} rounds of {} ms\n{}{verdict}",
        report.rounds,
        report.round_ms,
        lines.join("\n")
    )
}

/// Heads of the columns of [`row`].
#[must_use]
pub fn head(names: usize) -> String {
    format!(
        "{:<names$} {:<5} {:>9} {:>6} {:>8} {:>7} {:>7} {:>7}  {}",
        "kernel, case", "", "ms", "+-", "GFLOP/s", "GB/s", "FLOP/B", "roof", "variant"
    )
}

/// One case: median and half the quartiles' distance in per cent, rates, share of the roof with its letter ([`Roof::letter`]). `names` is the width of the first column.
#[must_use]
pub fn row(row: &Row, names: usize) -> String {
    let text = if row.text == "mmae" { String::new() } else { format!(" [{}]", row.text) };
    let name = format!("{} {}{text}", row.kernel, row.case);
    let Some(t) = &row.times else {
        let more = row.wrong.join("\n    ");
        return format!("{name:<names$} {:<5} WRONG, not timed\n    {more}", row.storage);
    };
    let spread = if t.ms.median > 0.0 { (t.ms.high - t.ms.low) / 2.0 / t.ms.median * 100.0 } else { 0.0 };
    let beside = t.beside_own.map_or_else(String::new, |ratio| format!("{ratio:.2}x mmae's  "));
    let cache = if t.in_cache { "  in cache" } else { "" };
    format!(
        "{name:<names$} {:<5} {:>9} {:>5.0}% {:>8} {:>7} {:>7} {:>5.0}%{}  {beside}{}{cache}",
        row.storage,
        short(t.ms.median),
        spread,
        short(t.gflops),
        short(t.gbytes),
        short(t.intensity),
        100.0 * t.roof,
        Roof::letter(&t.bound),
        row.variant
    )
}

/// One ladder: every step with its time, what it gained over the one before it, and what it changed.
#[must_use]
pub fn ladder(rungs: &[Rung<'_>]) -> String {
    let Some(first) = rungs.first() else { return String::new() };
    let mut lines = vec![
        String::new(),
        format!("{} {}", first.row.kernel, first.row.case),
        format!(
            "  {:<30} {:<4} {:>9} {:>8} {:>7} {:>6} {:>6}  what changed",
            "step", "", "ms", "GFLOP/s", "GB/s", "roof", "gain"
        ),
    ];
    let mut before = None;
    for Rung { row, change } in rungs {
        let name = if row.text == "mmae" { format!("{}.wgsl", row.kernel) } else { row.text.clone() };
        let Some(t) = &row.times else {
            lines.push(format!("  {name:<30} {:<4} WRONG, not timed: {}", row.storage, row.wrong.join("; ")));
            continue;
        };
        let gain = before.map_or("-".to_owned(), |ms: f64| format!("{:.2}x", ms / t.ms.median));
        before = Some(t.ms.median);
        lines.push(format!(
            "  {name:<30} {:<4} {:>9} {:>8} {:>7} {:>5.0}% {gain:>6}  {change}",
            row.storage,
            short(t.ms.median),
            short(t.gflops),
            short(t.gbytes),
            100.0 * t.roof
        ));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let cases =
            [(0.0, "0"), (0.01234, "0.0123"), (1.234, "1.23"), (12.34, "12.3"), (1234.5, "1234"), (1e-9, "0.00000")];
        let wrong: Vec<_> = cases.iter().map(|(x, want)| (want, short(*x))).filter(|(a, b)| *a != b).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
        assert_eq!([bytes(256 << 10), bytes(1 << 30), bytes(1000)], ["256 KiB", "1 GiB", "1000 B"]);
    }
}
