//! `mmae bench step`: whole training steps.

use std::path::PathBuf;
use std::time::Instant;

use serde_json::json;

use super::{Effects, command, finish};
use crate::bench::clock::DeviceClock;
use crate::bench::run::{begin, end};
use crate::bench::step::{Growth, Limits, Step, measure, profile, sweep};
use crate::bench::text::{self, short};
use crate::cli::{Common, open_device, print, print_json};
use crate::device::{LaunchTime, by_kernel};
use crate::error::Result;
use crate::train::config::RunConfig;
use crate::train::files::read_text;
use crate::train::plan::bytes;
use crate::train::resolve::{Sources, environment};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Model preset: m2ae, m2ae-small, m2ae-tiny, m2ae-vit
    #[arg(long, value_name = "PRESET", default_value = "m2ae")]
    model: String,
    /// Samples of a step
    #[arg(long, value_name = "N")]
    batch: Option<usize>,
    /// A TOML file of settings, as `mmae train` takes
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// One setting, for example train.precision=f16; may be repeated
    #[arg(long, value_name = "SECTION.FIELD=VALUE")]
    set: Vec<String>,
    /// Also time every launch of a step, and print the share of each kernel
    #[arg(long)]
    profile: bool,
    /// Also double the batch, then change the number of tokens, and fit how the time grows
    #[arg(long)]
    sweep: bool,
    /// Largest batch of the sweep
    #[arg(long, value_name = "N", default_value_t = 256, requires = "sweep")]
    max_batch: usize,
    /// Most seconds of the sweep
    #[arg(long, value_name = "S", default_value_t = 120.0, requires = "sweep")]
    max_seconds: f64,
    /// Most MiB of the pool in the sweep
    #[arg(long, value_name = "MIB", default_value_t = 4096, requires = "sweep")]
    max_mib: u64,
    #[command(flatten)]
    effects: Effects,
}

fn configuration(args: &Args) -> Result<RunConfig> {
    let text = args.config.as_deref().map(read_text).transpose()?;
    let mut config = RunConfig::resolve(&Sources {
        file: args.config.as_deref().zip(text.as_deref()),
        environment: &environment(),
        set: &args.set,
        preset: Some(&args.model),
        steps: None,
    })?;
    config.train.batch = args.batch.unwrap_or(config.train.batch);
    config.validate()?;
    Ok(config)
}

pub(super) fn run(args: &Args, common: &Common) -> Result<()> {
    let out = args.effects.file(common)?;
    let config = configuration(args)?;
    let name = std::iter::once(&args.model).chain(&args.set).cloned().collect::<Vec<_>>().join(" ");
    let opened = Instant::now();
    let context = open_device(common)?;
    let effort = args.effects.effort();
    // Before the clock is tried: that would compile nothing of the model, but open and warm the device.
    let step = measure(&context, &config, &name, effort, opened)?;
    let clock = DeviceClock::new(&context);
    let mut report = begin(&context, &clock, effort, &command())?;
    let loud = !common.json || out.is_some();
    if loud {
        print(text::device(&report.device))?;
        print(to_text(&step))?;
    }
    report.steps.push(step);
    if args.profile && loud {
        print(profile_text(&profile(&context, &config)?))?;
    }
    if args.sweep {
        let limits = Limits { batch: args.max_batch, seconds: args.max_seconds, bytes: args.max_mib << 20 };
        let growths = sweep(&context, &config, limits)?;
        if loud {
            growths.iter().try_for_each(|growth| print(growth_text(growth)))?;
        } else {
            // A sweep has no place in a report that others are compared with: it is its own object.
            return print_json(&json!({ "step": report.steps, "growth": growths.map(|g| growth_json(&g)) }));
        }
    }
    end(&context, &clock, effort, &mut report)?;
    if loud {
        print(text::clock(&report))?;
    }
    finish(&report, out, common)
}

fn to_text(s: &Step) -> String {
    let gpu = s.gpu_ms.map_or_else(String::new, |ms| format!(", {} by the device's clock", short(ms.median)));
    let ms = |q: f64| short(q);
    [
        format!("model     {}, {} samples of {} tokens, {}", s.model, s.samples, s.tokens, s.storage),
        format!("step      {} ms ({} to {}){gpu}", ms(s.ms.median), ms(s.ms.low), ms(s.ms.high)),
        format!("rate      {} GFLOP a step, {} GFLOP/s", short(s.gflop), short(s.gflops)),
        format!("launches  {} a step, {} ms of the host", s.launches, short(s.host_ms)),
        format!("memory    {} in the pool at most", bytes(s.pool_bytes as f64)),
        format!("start     {} ms from opening the device to the end of the first step", short(s.first_ms)),
        format!("loss      {:.4} after the last step", s.loss),
    ]
    .join("\n")
}

/// Kernels by their time, the longest first.
fn profile_text(launches: &[LaunchTime]) -> String {
    let kernels = by_kernel(launches);
    let all: f64 = kernels.values().map(|k| k.time.as_secs_f64()).sum();
    let mut rows: Vec<_> = kernels.into_iter().collect();
    rows.sort_by_key(|(_, kernel)| std::cmp::Reverse(kernel.time));
    let mut lines =
        vec![format!("{:28} {:>8} {:>9} {:>7} {:>9} {:>8}", "kernel", "launches", "ms", "share", "GFLOP/s", "GB/s")];
    for (name, k) in rows {
        let seconds = k.time.as_secs_f64().max(1e-12);
        let (flops, moved) = (1e-9 * k.flops / seconds, 1e-9 * k.bytes as f64 / seconds);
        let (ms, share) = (1e3 * seconds, 100.0 * seconds / all.max(1e-12));
        lines.push(format!("{name:28} {:>8} {ms:>9.3} {share:>5.1} % {flops:>9.2} {moved:>8.2}", k.launches));
    }
    lines.push(format!("{:28} {:>8} {:>9.3}", "sum", launches.len(), 1e3 * all));
    lines.join("\n")
}

fn growth_text(growth: &Growth) -> String {
    let mut lines = vec![format!("{:>8} {:>10} {:>10}", growth.of, "ms a step", "us each")];
    for (size, seconds) in &growth.points {
        lines.push(format!("{size:>8} {:>10} {:>10}", short(1e3 * seconds), short(1e6 * seconds / *size as f64)));
    }
    let exponent = growth.exponent.map_or_else(|| "too few points".into(), |e| format!("{e:.2}"));
    lines.push(format!("exponent {exponent} (upper half of the points); stopped at {}", growth.stopped));
    lines.join("\n")
}

fn growth_json(growth: &Growth) -> serde_json::Value {
    let point = |(size, seconds): &(usize, f64)| json!({ "size": size, "ms": 1e3 * seconds });
    json!({
        "of": growth.of,
        "points": growth.points.iter().map(point).collect::<Vec<_>>(),
        "exponent": growth.exponent,
        "stopped": growth.stopped,
    })
}
