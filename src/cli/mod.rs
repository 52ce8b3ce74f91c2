//! The command line: one file per verb. A new verb is its file, its `mod` line, and its line in `verbs!`.
//!
//! Results go to stdout, everything else to stderr. Exit codes: 0 success, 1 failure, 2 usage or configuration, 3 no adapter,
//! 130 interrupted.

mod bench;
mod demo;
mod doctor;
mod encode;
mod eval;
mod info;
pub mod interrupt;
mod kernels;
mod output;
mod pipelines;
mod plan;
mod progress;
mod reconstruct;
mod resume;
mod search;
mod train;
mod tune;
mod verify;

use std::process::ExitCode;

use clap::Parser;

pub use output::{Common, log, open_device, print, print_json};

use crate::error::Result;

/// Train and run a multimodal autoencoder on any GPU, with hand-written WGSL kernels and no CUDA.
#[derive(Parser)]
#[command(name = "mmae", version, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    verb: Verb,
}

/// Each verb `Name(module)` has `module::Args` (its doc comment is the help text) and `module::run(&Args, &Common)`.
macro_rules! verbs {
    ($($name:ident($module:ident),)*) => {
        #[derive(clap::Subcommand)]
        enum Verb {
            $($name($module::Args),)*
        }

        impl Verb {
            fn run(&self, common: &Common) -> Result<()> {
                match self {
                    $(Self::$name(args) => $module::run(args, common),)*
                }
            }
        }
    };
}

verbs! {
    Demo(demo),
    Train(train),
    Resume(resume),
    Eval(eval),
    Reconstruct(reconstruct),
    Encode(encode),
    Search(search),
    Plan(plan),
    Info(info),
    Doctor(doctor),
    Kernels(kernels),
    Bench(bench),
    Tune(tune),
    Verify(verify),
}

/// Parses the arguments of the process, runs the verb, and reports. To be called first in `main`.
#[must_use]
pub fn main() -> ExitCode {
    quiet_wayland();
    fail_at_size_limit();
    let cli = Cli::parse();
    let outcome = cli.verb.run(&cli.common);
    cli.common.finish();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            output::report(&error);
            ExitCode::from(error.exit_code())
        }
    }
}

/// Vulkan drivers look for a Wayland display, and its library prints "error: XDG_RUNTIME_DIR is invalid" where there is no
/// session, as in a container. Nothing here needs a display.
fn quiet_wayland() {
    if cfg!(target_os = "linux") && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
        // SAFETY: the first statement of the process, before any thread that could read the environment.
        unsafe { std::env::set_var("XDG_RUNTIME_DIR", std::env::temp_dir()) };
    }
}

/// A file that outgrows the limit of the process (`ulimit -f`) ends the process by a signal. Ignored, the write fails instead
/// and is reported as on a full disk.
fn fail_at_size_limit() {
    #[cfg(unix)]
    // SAFETY: only says that a signal is to be ignored; no code of ours runs in a handler.
    unsafe {
        libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_arguments_are_consistent() {
        super::Cli::command().debug_assert();
    }
}
