//! `mmae tune`: which variants of kernels are fastest on this device.

use serde_json::json;

use super::{Common, open_device, print, print_json};
use crate::bench::cases::{M2AE, SIZES};
use crate::bench::clock::{DeviceClock, Effort};
use crate::bench::tune::{Finding, tune};
use crate::error::{Error, Result};
use crate::shape::DType;
use crate::train::tuning::{Table, cache_path, merged};

/// Measure the variants of matrix products, single and in batches, and of attention on this device and keep what wins
///
/// Each variant is checked first; only one that is faster beyond the spread, and by 3 % at least, is kept. `mmae train --tuned` goes by the table.
#[derive(clap::Args)]
pub struct Args {
    /// Shapes: `tiny`, `m2ae` (batch 8) or `large` (batch 64)
    #[arg(long, default_value = M2AE.name, value_parser = ["tiny", "m2ae", "large"])]
    sizes: String,
    /// Storage of tensors
    #[arg(long, default_value = "f32", value_parser = ["f32", "f16", "both"])]
    storage: String,
    /// Rounds of each measurement
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u16).range(3..))]
    rounds: u16,
    /// Milliseconds that a round lasts at least
    #[arg(long, default_value_t = 20)]
    round_ms: u16,
    /// Print only; leave the table as it is
    #[arg(long)]
    dry: bool,
}

pub fn run(args: &Args, common: &Common) -> Result<()> {
    let unknown = || Error::config("sizes", format!("{} is unknown", args.sizes));
    let shapes = SIZES.into_iter().find(|shapes| shapes.name == args.sizes).ok_or_else(unknown)?;
    let dtypes: &[DType] = match args.storage.as_str() {
        "f16" => &[DType::F16],
        "both" => &[DType::F32, DType::F16],
        _ => &[DType::F32],
    };
    let ctx = open_device(common)?;
    let path = cache_path(ctx.capabilities())?;
    let effort = Effort { rounds: args.rounds.into(), least: f64::from(args.round_ms) * 1e-3 };
    let (mut findings, mut printed) = (Vec::new(), Ok(()));
    let choices = tune(&ctx, &DeviceClock::new(&ctx), effort, shapes, dtypes, &mut |found| {
        if !common.json && printed.is_ok() {
            printed = print(line(found));
        }
        findings.push(found.clone());
    })?;
    printed?;
    let (kept, classes) = (choices.len(), findings.len());
    let mut others = 0;
    if !args.dry {
        // A table that cannot be used any more gives nothing.
        let before = Table::load(&ctx, &path).map(|table| table.choices).unwrap_or_default();
        let measured: Vec<_> = findings.iter().map(|found| found.class.as_str()).collect();
        let all = merged(before, &measured, choices);
        others = all.len() - kept;
        Table::new(&ctx, all).save(&path)?;
    }
    if common.json {
        let all: Vec<_> = findings.iter().map(to_json).collect();
        let adapter = &ctx.capabilities().adapter;
        return print_json(&json!({ "adapter": adapter, "table": path, "written": !args.dry, "classes": all }));
    }
    print(format_args!("{kept} of {classes} classes have a faster variant"))?;
    if args.dry {
        return print("the table is left as it is");
    }
    print(format_args!("the table is {}, with {others} more choices of earlier runs for other classes", path.display()))
}

fn line(found: &Finding) -> String {
    let ms = |seconds: f64| format!("{:.3} ms", 1e3 * seconds);
    let mut text = format!("{:<24} {:<26} {} {}", found.class, found.label, found.rule, ms(found.rule_time.median));
    if let Some((name, time)) = &found.best {
        let verdict = if found.kept { "kept" } else { "too little, or within the spread" };
        let ratio = found.rule_time.median / time.median.max(1e-12);
        text += &format!(" | {name} {} | {ratio:.2}x {verdict}", ms(time.median));
    }
    for (name, difference) in &found.wrong {
        text += &format!("\n    {name} is wrong, not timed: {difference}");
    }
    text
}

fn to_json(found: &Finding) -> serde_json::Value {
    let wrong: Vec<_> = found.wrong.iter().map(|(name, why)| json!({ "variant": name, "difference": why })).collect();
    json!({
        "class": found.class,
        "case": found.label,
        "rule": found.rule,
        "rule_ms": 1e3 * found.rule_time.median,
        "best": found.best.as_ref().map(|(name, _)| name),
        "best_ms": found.best.as_ref().map(|(_, time)| 1e3 * time.median),
        "kept": found.kept,
        "wrong": wrong,
    })
}
