//! `mmae bench`: the kernel laboratory.

mod step;

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::output::open_with;
use super::{Common, print, print_json};
use crate::bench::cases::{LARGE, M2AE, SIZES, Shapes};
use crate::bench::clock::Effort;
use crate::bench::compare::{Comparison, compare, read};
use crate::bench::foreign::{Foreign, likes};
use crate::bench::ladder;
use crate::bench::report::{Report, Row};
use crate::bench::roofline::roofline;
use crate::bench::run::{self, Event, Options};
use crate::bench::text;
use crate::device::{Context, ContextOptions};
use crate::error::{Error, Result};
use crate::shape::DType;
use crate::train::files;

/// Measure this device, and what the kernels make of it
///
/// Every result is compared with the CPU twins before it is timed, and every run checks its clock: twice the work must
/// read as twice the time. Without a word, `kernels` is meant.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Args {
    #[command(subcommand)]
    what: Option<What>,
    #[command(flatten)]
    kernels: Kernels,
}

#[derive(clap::Subcommand)]
enum What {
    /// The device's own limits: multiply-adds, memory, launches, submissions, read-back
    Device(Device),
    /// Every kernel in the model's shapes, as shares of those limits
    Kernels(Kernels),
    /// The teaching versions of matmul, attention and layernorm, in order, with what each step gains here
    Ladder(Ladder),
    /// Whole training steps on synthetic batches
    Step(step::Args),
}

/// How long, how often, and where to.
#[derive(clap::Args)]
struct Effects {
    /// Rounds of every measurement; the median counts
    #[arg(long, value_name = "N", default_value_t = 7, value_parser = clap::value_parser!(u16).range(3..))]
    rounds: u16,
    /// Milliseconds that a round lasts at least
    #[arg(long, value_name = "MS", default_value_t = 20, value_parser = clap::value_parser!(u16).range(1..))]
    round_ms: u16,
    /// Go by the wall, as on a device without timestamps
    #[arg(long)]
    wall: bool,
    /// With --json: write the report to this file, which ends in .json, and print the table
    #[arg(value_name = "OUT.json")]
    out: Option<PathBuf>,
}

impl Effects {
    fn effort(&self) -> Effort {
        Effort { rounds: self.rounds.into(), least: f64::from(self.round_ms) * 1e-3 }
    }

    /// The device that the flags name.
    fn open(&self, common: &Common) -> Result<Context> {
        open_with(common, ContextOptions { no_timestamps: self.wall, ..Default::default() })
    }

    /// The file of the report; an argument that is none is more likely a word mistyped.
    fn file(&self, common: &Common) -> Result<Option<&Path>> {
        let Some(out) = &self.out else { return Ok(None) };
        if out.extension().is_none_or(|e| e != "json") {
            let reason = format!(
                "{} is neither the one word of `mmae bench --help` nor the name of a report, which ends in .json",
                out.display()
            );
            return Err(Error::config("bench", reason));
        }
        if !common.json {
            return Err(Error::config("bench", format!("to write {}, say --json {0}", out.display())));
        }
        has_folder(out)?;
        Ok(Some(out))
    }
}

/// Refuses a file that could not be written, before anything is measured for it.
fn has_folder(path: &Path) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    match folder.filter(|folder| !folder.is_dir()) {
        Some(folder) => {
            Err(Error::config(path.display().to_string(), format!("there is no folder {}", folder.display())))
        }
        None => Ok(()),
    }
}

#[derive(clap::Args)]
struct Device {
    #[command(flatten)]
    effects: Effects,
}

#[derive(clap::Args)]
struct Ladder {
    /// Shapes, as of `bench kernels`
    #[arg(long, value_parser = sizes())]
    sizes: Option<&'static Shapes>,
    #[command(flatten)]
    effects: Effects,
}

#[derive(clap::Args)]
struct Kernels {
    /// Only cases whose kernel and shapes contain this text, for example `matmul 1568`; storage has a flag of its own
    #[arg(long, value_name = "TEXT")]
    filter: Option<String>,
    /// Storage of tensors
    #[arg(long, default_value = "f32", value_parser = storages())]
    storage: Storages,
    /// Shapes: `tiny` for a try, `m2ae` (batch 8) on processors, `large` (batch 64, beyond caches) on hardware
    #[arg(long, value_parser = sizes())]
    sizes: Option<&'static Shapes>,
    /// Draw the roofline to this file
    #[arg(long, value_name = "OUT.svg")]
    svg: Option<PathBuf>,
    /// Compare two reports instead of measuring
    #[arg(long, num_args = 2, value_names = ["A.json", "B.json"], conflicts_with_all = ["filter", "sizes", "svg", "wgsl"])]
    compare: Option<Vec<PathBuf>>,
    /// Measure a text of your own beside ours; may be repeated. See docs/bench.md for what it must declare
    #[arg(long, value_name = "FILE", requires = "like")]
    wgsl: Vec<PathBuf>,
    /// The kernel that the text stands in for
    #[arg(long, value_name = "KERNEL", requires = "wgsl")]
    like: Option<String>,
    #[command(flatten)]
    effects: Effects,
}

#[derive(Clone, Copy)]
enum Storages {
    F32,
    F16,
    Both,
}

fn storages() -> impl TypedValueParser<Value = Storages> {
    PossibleValuesParser::new(["f32", "f16", "both"]).map(|name| match name.as_str() {
        "f16" => Storages::F16,
        "both" => Storages::Both,
        _ => Storages::F32,
    })
}

impl Storages {
    fn dtypes(self) -> Vec<DType> {
        match self {
            Self::F32 => vec![DType::F32],
            Self::F16 => vec![DType::F16],
            Self::Both => vec![DType::F32, DType::F16],
        }
    }
}

fn sizes() -> impl TypedValueParser<Value = &'static Shapes> {
    PossibleValuesParser::new(SIZES.map(|s| s.name))
        .map(|name| SIZES.into_iter().find(|s| s.name == name).unwrap_or(&M2AE))
}

pub fn run(args: &Args, common: &Common) -> Result<()> {
    match &args.what {
        Some(What::Device(device)) => measure_device(&device.effects, common),
        Some(What::Kernels(kernels)) => measure_kernels(kernels, common),
        Some(What::Ladder(ladder)) => measure_ladder(ladder, common),
        Some(What::Step(step)) => step::run(step, common),
        None => measure_kernels(&args.kernels, common),
    }
}

/// The command line as it was typed, with the program by its name.
fn command() -> String {
    let arguments = std::env::args_os().skip(1).map(|a| a.to_string_lossy().into_owned());
    std::iter::once("mmae".to_owned()).chain(arguments).collect::<Vec<_>>().join(" ")
}

fn measure_device(effects: &Effects, common: &Common) -> Result<()> {
    let out = effects.file(common)?;
    let context = effects.open(common)?;
    let report = run::device(&context, effects.effort(), &command())?;
    if !common.json || out.is_some() {
        print(header(&report))?;
    }
    finish(&report, out, common)
}

fn measure_ladder(args: &Ladder, common: &Common) -> Result<()> {
    let out = args.effects.file(common)?;
    let context = args.effects.open(common)?;
    if context.is_cpu() {
        return Err(Error::config("bench ladder", "needs a device; the CPU twins run no texts"));
    }
    let shapes = shapes(args.sizes, &context);
    let report = ladder::climb(&context, shapes, args.effects.effort(), &command())?;
    if !common.json || out.is_some() {
        print(header(&report))?;
        for (like, _) in ladder::OWN {
            print(text::ladder(&ladder::rungs(&report, like)))?;
        }
        report.skipped.iter().try_for_each(|reason| print(format_args!("skipped: {reason}")))?;
    }
    finish(&report, out, common)
}

/// The shapes asked for, else those that suit the device.
fn shapes(asked: Option<&'static Shapes>, context: &Context) -> &'static Shapes {
    asked.unwrap_or(if context.capabilities().software { &M2AE } else { &LARGE })
}

fn header(report: &Report) -> String {
    let ceilings = report.ceilings.as_ref().map(text::ceilings).unwrap_or_default();
    format!("{}\n{}\n{ceilings}", text::device(&report.device), text::clock(report))
}

/// Writes the report where it is wanted, and fails when a result was wrong.
fn finish(report: &Report, out: Option<&Path>, common: &Common) -> Result<()> {
    if common.json {
        let value = serde_json::to_value(report)
            .map_err(|e| Error::Check { what: "writing the report".into(), detail: e.to_string() })?;
        match out {
            Some(path) => files::write(path, format!("{value:#}\n").as_bytes())?,
            None => print_json(&value)?,
        }
    }
    if !report.trusted {
        super::log("warning: the clock of this run is not to be trusted; see the calibration in the report");
    }
    let wrong: Vec<_> = report.cases.iter().filter(|row| !row.wrong.is_empty()).map(Row::key).collect();
    if wrong.is_empty() {
        return Ok(());
    }
    let detail = format!("wrong results, not timed: {}", wrong.join("; "));
    Err(Error::Check { what: "mmae bench".into(), detail })
}

/// Shows a comparison, or writes it where it is wanted.
fn compared(found: &Comparison, out: Option<&Path>, common: &Common) -> Result<()> {
    match out {
        Some(path) => {
            files::write(path, format!("{:#}\n", found.to_json()).as_bytes())?;
            print(found.to_text())
        }
        None if common.json => print_json(&found.to_json()),
        None => print(found.to_text()),
    }
}

fn measure_kernels(args: &Kernels, common: &Common) -> Result<()> {
    if let Some([a, b]) = args.compare.as_deref() {
        return compared(&compare(&read(a)?, &read(b)?), args.effects.file(common)?, common);
    }
    let out = args.effects.file(common)?;
    if let Some(path) = &args.svg {
        if path.extension().is_none_or(|e| e != "svg") {
            return Err(Error::config("--svg", format!("{} does not end in .svg", path.display())));
        }
        has_folder(path)?;
    }
    let texts = texts(args)?;
    let context = args.effects.open(common)?;
    let dtypes = args.storage.dtypes();
    let texts = texts.into_iter().map(|text| text.on(context.capabilities())).collect::<Result<Vec<_>>>()?;
    admit(&texts, &context, common, &dtypes)?;
    let shapes = shapes(args.sizes, &context);
    let options = Options {
        filter: args.filter.clone(),
        dtypes,
        shapes,
        effort: args.effects.effort(),
        texts,
        command: command(),
    };
    if options.cases().is_empty() {
        return Err(Error::config("--filter", "no case has this in its name; leave it out to see all of them"));
    }
    let loud = !common.json || out.is_some();
    let mut shown = Ok(());
    let report = run::kernels(&context, &options, &mut |event| {
        let line = match event {
            Event::Start(report) => format!("{}\n\n{}", header(report), text::head(NAMES)),
            Event::Row(row) => text::row(row, NAMES),
            Event::Skipped(reason) => format!("not measured: {reason}"),
        };
        if loud && shown.is_ok() {
            shown = print(line);
        }
    })?;
    shown?;
    for text in options.texts.iter().filter(|text| report.cases.iter().all(|row| row.text != text.name)) {
        super::log(format!(
            "warning: {} covers none of these cases; docs/bench.md says what it must declare",
            text.name
        ));
    }
    if loud {
        print(text::clock(&report))?;
    }
    if let Some(path) = &args.svg {
        files::write(path, roofline(&report)?.as_bytes())?;
    }
    finish(&report, out, common)
}

/// Width of the column of names.
const NAMES: usize = 62;

fn texts(args: &Kernels) -> Result<Vec<Foreign>> {
    let like = args.like.as_deref().unwrap_or_default();
    let load = |path: &PathBuf| Foreign::new(&path.to_string_lossy(), &files::read_text(path)?, like);
    if args.wgsl.is_empty() && !like.is_empty() {
        return Err(Error::config(
            "--like",
            format!("needs --wgsl FILE; texts can stand in for {}", likes().join(", ")),
        ));
    }
    let mut texts = args.wgsl.iter().map(load).collect::<Result<Vec<_>>>()?;
    // Files of one name in two folders are called by their paths.
    let names: Vec<_> = texts.iter().map(|text| text.name.clone()).collect();
    for (text, path) in texts.iter_mut().zip(&args.wgsl) {
        if names.iter().filter(|name| **name == text.name).count() > 1 {
            text.name = path.display().to_string();
        }
    }
    Ok(texts)
}

/// Lets only texts pass that agree with the twin in every test case of the kernel that they cover, with bounds checked
/// and memory guarded: the measurement after it runs without those checks, as the kernels do in training.
fn admit(texts: &[Foreign], context: &Context, common: &Common, dtypes: &[DType]) -> Result<()> {
    if texts.is_empty() {
        return Ok(());
    }
    if context.is_cpu() {
        return Err(Error::config("--wgsl", "a text needs a device; the CPU twins run none"));
    }
    let device = context.capabilities().adapter.clone();
    let checked = Context::new(&ContextOptions { device, checks: true, poison: true, ..Default::default() })?;
    for text in texts {
        for &dtype in dtypes {
            let found = text.parity(&checked, dtype)?;
            if let Some(first) = found.wrong.first() {
                let detail =
                    format!("{} differences from the twin of {}, the first: {first}", found.wrong.len(), text.like);
                return Err(Error::Check { what: text.name.clone(), detail });
            }
            if text.halves_only() && dtype != DType::F16 {
                common.note(format_args!("{}: takes halves only, see --storage; not measured in {dtype}", text.name));
                continue;
            }
            if found.covered == 0 {
                let detail = format!("covers none of the {} test cases of {}", found.cases, text.like);
                return Err(Error::Check { what: text.name.clone(), detail });
            }
            common.note(format_args!(
                "{}: agrees with the twin of {} in {dtype} in the {} of {} test cases that it covers",
                text.name, text.like, found.covered, found.cases
            ));
        }
    }
    Ok(())
}
