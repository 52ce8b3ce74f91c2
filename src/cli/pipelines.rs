//! Compiled pipelines from one command to the next: a file in the user's cache, where the device has a pipeline cache.
//!
//! Nothing that goes wrong here is more than a warning: without the file a command compiles, and takes longer to start.

use std::fmt::Display;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use super::log;
use crate::device::Context;
use crate::error::{Error, Result};
use crate::train::files;

/// `off`, or the folder to use instead of that in the user's cache.
pub(super) const VARIABLE: &str = "MMAE_PIPELINE_CACHE";

/// Where the pipelines of the device lie: `mmae/pipelines-KEY` in the user's cache. `None`: the device has no pipeline cache, or
/// it is turned off.
///
/// # Errors
/// `Error::Config` when no folder is known.
pub(super) fn path(context: &Context) -> Result<Option<PathBuf>> {
    let Some(key) = context.pipelines_key() else { return Ok(None) };
    let folder = match std::env::var_os(VARIABLE).filter(|value| !value.is_empty()) {
        None => files::cache_folder()?,
        Some(value) if value == "off" => return Ok(None),
        Some(value) if Path::new(&value).is_absolute() => value.into(),
        Some(value) => {
            let reason = format!("{} is neither `off` nor an absolute path", value.display());
            return Err(Error::config(VARIABLE, reason));
        }
    };
    Ok(Some(folder.join(format!("pipelines-{key}"))))
}

/// Loads what earlier commands compiled. Returns where [`save`] shall put it, if anywhere.
pub(super) fn load(context: &Context) -> Option<PathBuf> {
    let path = path(context).unwrap_or_else(|error| {
        warn(error);
        None
    })?;
    let saved = match std::fs::read(&path) {
        Ok(saved) => Some(saved),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => {
            warn(Error::io("read", &path, error));
            None
        }
    };
    // SAFETY: only `save` writes the file, in a folder that the user chose; who else may write there may replace programs too.
    if let Err(error) = unsafe { context.load_pipelines(saved.as_deref()) } {
        warn(format_args!("{}: {error}", path.display()));
    }
    Some(path)
}

/// Writes what was compiled, if it was not in the file already.
pub(super) fn save(context: &Context, path: &Path) {
    let Some(bytes) = context.save_pipelines() else { return };
    let folder = path.parent().unwrap_or(path);
    let made = std::fs::create_dir_all(folder).map_err(|error| Error::io("create", folder, error));
    if let Err(error) = made.and_then(|()| files::write(path, &bytes)) {
        warn(error);
    }
}

fn warn(problem: impl Display) {
    log(format_args!(
        "warning: {problem}; kernels are compiled again at the next start ({VARIABLE}=off turns this off)"
    ));
}
