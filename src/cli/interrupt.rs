//! Ctrl-C: the first asks, the second insists.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::log;
use crate::error::{Error, Result};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);
static INSTALLED: OnceLock<Option<String>> = OnceLock::new();

/// Becomes true at the first Ctrl-C (or termination signal) after [`install`]. Loops look at it between steps.
#[must_use]
pub fn interrupted() -> &'static AtomicBool {
    &INTERRUPTED
}

/// From now on the first Ctrl-C only sets [`interrupted`], and the second ends the process at once with code 130. Verbs that
/// have something to save call this; the others end at the first. Calling it again does nothing.
///
/// # Errors
/// `Error::Io` when the system refuses a signal handler.
pub fn install() -> Result<()> {
    let failure = INSTALLED.get_or_init(|| ctrlc::set_handler(on_signal).err().map(|error| error.to_string()));
    match failure {
        None => Ok(()),
        Some(reason) => Err(Error::io("install", "signal handler", std::io::Error::other(reason.clone()))),
    }
}

fn on_signal() {
    if INTERRUPTED.swap(true, Ordering::SeqCst) {
        std::process::exit(130);
    }
    log("interrupted: finishing this step and writing a checkpoint; press Ctrl-C again to stop at once");
}
