//! `mmae bench step`: whole training steps.

use std::path::PathBuf;
use std::time::Instant;

use super::{Effects, command, finish};
use crate::bench::agreement::Agreement;
use crate::bench::ceilings::ceilings;
use crate::bench::clock::DeviceClock;
use crate::bench::run::{begin, end};
use crate::bench::shares::profile;
use crate::bench::step::{Step, measure};
use crate::bench::sweep::{Growth, Limits, sweep};
use crate::bench::text::{self, short};
use crate::cli::{Common, print};
use crate::error::{Error, Result};
use crate::train::config::RunConfig;
use crate::train::files::read_text;
use crate::train::plan::bytes;
use crate::train::resolve::{Sources, environment};

#[derive(clap::Args)]
pub(super) struct Args {
    /// Model preset: m2ae, m2ae-small, m2ae-tiny, m2ae-vit
    #[arg(long, value_name = "PRESET", default_value = "m2ae", conflicts_with = "config")]
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
        // A file names its model, or means the default itself.
        preset: args.config.is_none().then_some(args.model.as_str()),
        steps: None,
    })?;
    config.train.batch = args.batch.unwrap_or(config.train.batch);
    config.validate()?;
    Ok(config)
}

/// What the report calls the model: its preset or file, and what was set.
fn name(args: &Args) -> String {
    let model = args.config.as_ref().map_or_else(|| args.model.clone(), |path| path.display().to_string());
    std::iter::once(&model).chain(&args.set).cloned().collect::<Vec<_>>().join(" ")
}

pub(super) fn run(args: &Args, common: &Common) -> Result<()> {
    let out = args.effects.file(common)?;
    let config = configuration(args)?;
    let name = name(args);
    let opened = Instant::now();
    let context = args.effects.open(common)?;
    if args.profile && context.is_cpu() {
        return Err(Error::config("--profile", "needs a device; what the CPU twins take says nothing of one"));
    }
    let (effort, mut agreement) = (args.effects.effort(), Agreement::default());
    // Before the clock is tried: that would compile nothing of the model, but open and warm the device.
    let (mut step, launches) = measure(&context, &config, &name, effort, opened, &mut agreement)?;
    let clock = DeviceClock::new(&context);
    let mut report = begin(&context, &clock, effort, &command())?;
    let found = ceilings(&context, &clock, effort)?;
    step.hold_against(&found, &launches);
    let loud = !common.json || out.is_some();
    if loud {
        print(text::device(&report.device))?;
        print(text::ceilings(&found))?;
        print(to_text(&step))?;
    }
    if args.profile {
        step.kernels = profile(&context, &config, &found)?;
        step.kernels_by = Some(if clock.has_gpu() { "device" } else { "wall" }.to_owned());
        if loud {
            print(profile_text(&step))?;
        }
    }
    report.ceilings = Some(found);
    report.steps.push(step);
    if args.sweep {
        let limits = Limits { batch: args.max_batch, seconds: args.max_seconds, bytes: args.max_mib << 20 };
        report.growths = sweep(&context, &config, limits, &mut agreement)?.into();
        if loud {
            report.growths.iter().try_for_each(|growth| print(growth_text(growth)))?;
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
    let roof = s.least_ms.zip(s.roof).map_or_else(String::new, |(least, roof)| {
        format!("{:.1} % of it: its launches take {} ms at least by the ceilings", 100.0 * roof, short(least))
    });
    let ms = |q: f64| short(q);
    let lines = [
        format!("model     {}, {} samples of {} tokens, {}", s.model, s.samples, s.tokens, s.storage),
        format!("checked   {}", s.checked),
        format!("step      {} ms ({} to {}){gpu}", ms(s.ms.median), ms(s.ms.low), ms(s.ms.high)),
        format!("roof      {roof}"),
        format!("rate      {} GFLOP a step, {} GFLOP/s", short(s.gflop), short(s.gflops)),
        format!(
            "launches  {} a step, {} ms of the host, {} ms waiting for room in the queue",
            s.launches,
            short(s.host_ms),
            short(s.wait_ms)
        ),
        format!("memory    {} in the pool at most", bytes(s.pool_bytes as f64)),
        format!("start     {} ms from opening the device to the end of the first step", short(s.first_ms)),
        format!("loss      {:.4} after the last step", s.loss),
    ];
    lines.join("\n")
}

/// Kernels by their time, the longest first.
fn profile_text(step: &Step) -> String {
    let shares = &step.kernels;
    let mut lines = Vec::new();
    if step.kernels_by.as_deref() == Some("wall") {
        lines.push(
            "by the wall, for want of timestamps: every launch alone, its submission and the wait for it included"
                .into(),
        );
    }
    lines.push(format!(
        "{:28} {:>8} {:>9} {:>6} {:>8} {:>8} {:>6}",
        "kernel", "launches", "ms", "share", "GFLOP/s", "GB/s", "roof"
    ));
    for k in shares {
        let [ms, gflops, gbytes] = [k.ms, k.gflops, k.gbytes].map(short);
        let share = 100.0 * k.share;
        let roof = k.roof.map_or_else(|| "-".into(), |roof| format!("{:.0}%", 100.0 * roof));
        lines
            .push(format!("{:28} {:>8} {ms:>9} {share:>5.1}% {gflops:>8} {gbytes:>8} {roof:>6}", k.kernel, k.launches));
    }
    let (launches, ms) = (shares.iter().map(|k| k.launches).sum::<u64>(), shares.iter().map(|k| k.ms).sum());
    lines.push(format!("{:28} {launches:>8} {:>9}", "sum", short(ms)));
    lines.join("\n")
}

fn growth_text(growth: &Growth) -> String {
    let mut lines = vec![format!("{:>8} {:>10} {:>10}", growth.of, "ms a step", "us each")];
    for p in &growth.points {
        lines.push(format!("{:>8} {:>10} {:>10}", p.size, short(p.ms), short(1e3 * p.ms / p.size as f64)));
    }
    let exponent = growth.exponent.map_or_else(|| "too few points".into(), |e| format!("{e:.2}"));
    lines.push(format!("exponent {exponent} (upper half of the points); stopped at {}", growth.stopped));
    lines.join("\n")
}
