//! What all verbs share: common flags, where text goes, and how a device is opened.

use std::error::Error as _;
use std::fmt::Display;
use std::io::{self, ErrorKind, Write};
use std::path::PathBuf;
use std::sync::OnceLock;

use super::pipelines;
use crate::device::{Context, ContextOptions};
use crate::error::{Error, Result};

/// Flags of every verb.
#[derive(clap::Args, Clone)]
#[command(next_help_heading = "Common options")]
pub struct Common {
    /// Device: `auto` (a GPU, else a software driver, else the twins), `cpu` (the twins), or a part of an adapter's name
    #[arg(long, global = true, value_name = "auto|cpu|NAME", default_value = "auto")]
    pub device: String,
    /// Print one JSON object on stdout instead of text
    #[arg(long, global = true)]
    pub json: bool,
    /// Only warnings and errors on stderr
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// More on stderr
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// The device that was opened, where its compiled pipelines are kept in a file.
    #[arg(skip)]
    kept: OnceLock<(Context, PathBuf)>,
}

impl Common {
    /// A line on stderr, unless `--quiet`.
    pub fn note(&self, text: impl Display) {
        if !self.quiet {
            log(text);
        }
    }

    /// Says how many records of a data set could not be used, and why the first; all of them with `--verbose`.
    pub fn skipped(&self, reasons: &[String]) {
        if let Some(first) = reasons.first() {
            log(format_args!("warning: {} records left out; the first: {first}", reasons.len()));
        }
        reasons.iter().skip(1).for_each(|reason| self.detail(reason));
    }

    /// What is left to do behind every verb, whether it went well or not: keeping compiled pipelines for the next one.
    pub(super) fn finish(&self) {
        if let Some((context, path)) = self.kept.get() {
            pipelines::save(context, path);
        }
    }

    /// A line on stderr with `--verbose`.
    pub fn detail(&self, text: impl Display) {
        if self.verbose {
            log(text);
        }
    }
}

/// A line on stderr. Whether anybody reads it is not our concern.
pub fn log(text: impl Display) {
    let _ = writeln!(io::stderr(), "{text}");
}

/// A line of results on stdout. A reader who has gone (`mmae kernels | head`) is no error: what is left is work to be done
/// and files to be written.
///
/// # Errors
/// `Error::Io` when stdout takes no more, a full disk say.
pub fn print(text: impl Display) -> Result<()> {
    match writeln!(io::stdout(), "{text}") {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::io("write", "stdout", error)),
        _ => Ok(()),
    }
}

/// A JSON value on stdout, indented.
///
/// # Errors
/// As [`print()`].
pub fn print_json(value: &serde_json::Value) -> Result<()> {
    print(format_args!("{value:#}"))
}

/// Prints an error with its causes on stderr, each cause once.
pub(super) fn report(error: &Error) {
    let mut said = error.to_string();
    log(format_args!("error: {said}"));
    let mut cause = error.source();
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !said.contains(&text) {
            log(format_args!("  caused by: {text}"));
            said = text;
        }
        cause = inner.source();
    }
}

/// Opens the device that the flags name and says which one it is.
///
/// # Errors
/// `Error::NoAdapter`.
pub fn open_device(common: &Common) -> Result<Context> {
    open_with(common, ContextOptions::default())
}

/// As [`open_device`], with options of the verb's own; the flags decide the device.
///
/// # Errors
/// `Error::NoAdapter`.
pub fn open_with(common: &Common, options: ContextOptions) -> Result<Context> {
    let context = Context::new(&ContextOptions { device: common.device.clone(), ..options })?;
    if let Some(path) = pipelines::load(&context) {
        // A verb opens one device; of two the first is kept.
        let _ = common.kept.set((context.clone(), path));
    }
    let capabilities = context.capabilities();
    common.note(format_args!("device: {}", capabilities.summary()));
    if context.is_cpu() {
        if common.device != "cpu" {
            log(
                "warning: no adapter found, running on the CPU twins, which are slow; scripts/demo.sh installs a driver",
            );
        }
    } else if capabilities.software {
        log("warning: this is a software driver; results are the same as on a GPU, speed is not");
    }
    Ok(context)
}
