//! Tables of measured choices: where they lie, what they hold for, and how a run keeps its own.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files;
use crate::device::{Capabilities, Context, Tuning, fnv1a};
use crate::error::{Error, Result};

/// What `format` says.
const FORMAT: &str = "mmae-tuning-1";

/// Choices and the device that they were measured on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    format: String,
    /// Version of this program: its kernels are what was measured.
    version: String,
    adapter: String,
    driver: String,
    backend: String,
    /// Class of work -> variant.
    pub choices: Tuning,
    /// Of the other fields, so that a damaged choice does not pass for another one.
    hash: String,
}

impl Table {
    /// Choices measured on this context's device.
    #[must_use]
    pub fn new(ctx: &Context, choices: Tuning) -> Self {
        let has = ctx.capabilities();
        let mut table = Self {
            format: FORMAT.into(),
            version: env!("CARGO_PKG_VERSION").into(),
            adapter: has.adapter.clone(),
            driver: has.driver.clone(),
            backend: has.backend.clone(),
            choices,
            hash: String::new(),
        };
        table.hash = table.sum();
        table
    }

    fn sum(&self) -> String {
        let fields = [&self.format, &self.version, &self.adapter, &self.driver, &self.backend].into_iter();
        hash(fields.chain(self.choices.iter().flat_map(|(class, choice)| [class, choice])))
    }

    /// Writes the table, whole or not at all; makes its folder.
    ///
    /// # Errors
    /// `Error::Io`.
    pub fn save(&self, path: &Path) -> Result<()> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|e| Error::io("create", folder, e))?;
        }
        let text = serde_json::to_string_pretty(self).map_err(|e| Error::data(path, e))?;
        files::write(path, format!("{text}\n").as_bytes())
    }

    /// Reads a table for this context's device.
    ///
    /// # Errors
    /// `Error::Io` when it cannot be read; `Error::Data` when it is not there, damaged, or of another device or version.
    pub fn load(ctx: &Context, path: &Path) -> Result<Self> {
        let advice = "measure again with `mmae tune`, or go on without: train.tuned=false";
        if !path.exists() {
            return Err(Error::data(path, format!("is not there; {advice}")));
        }
        let text = files::read_text(path)?;
        let table: Self = serde_json::from_str(&text)
            .map_err(|e| Error::data(path, format!("is no table of measured choices ({e}); {advice}")))?;
        if table.hash != table.sum() {
            return Err(Error::data(path, format!("is damaged: its hash does not fit; {advice}")));
        }
        let here = Self::new(ctx, Tuning::new());
        let of = |t: &Self| format!("{}, {}, {}, {} {}", t.adapter, t.driver, t.backend, t.format, t.version);
        if of(&table) != of(&here) {
            let reason = format!("was measured on another device or version ({}), this is {}", of(&table), of(&here));
            return Err(Error::data(path, format!("{reason}; {advice}")));
        }
        Ok(table)
    }
}

/// The choices of a table after a run that measured some classes: what it chose for these, and what stood there for others.
#[must_use]
pub fn merged(mut before: Tuning, measured: &[&str], chosen: Tuning) -> Tuning {
    before.retain(|class, _| !measured.contains(&class.as_str()));
    before.extend(chosen);
    before
}

/// Hash of texts with an end mark behind each.
fn hash<'a>(texts: impl Iterator<Item = &'a String>) -> String {
    format!("{:016x}", fnv1a(texts.flat_map(|text| text.bytes().chain([0]))))
}

/// Where the table of a device lies: `mmae/tuning-HASH.json` in the user's cache.
///
/// # Errors
/// As [`files::cache_folder`].
pub fn cache_path(has: &Capabilities) -> Result<PathBuf> {
    let device = hash([&has.adapter, &has.driver, &has.backend].into_iter());
    Ok(files::cache_folder()?.join(format!("tuning-{device}.json")))
}

/// The table in the user's cache.
///
/// # Errors
/// `Error::Config` when there is none, else as [`Table::load`].
pub fn cached(ctx: &Context) -> Result<Table> {
    let path = cache_path(ctx.capabilities())?;
    if !path.exists() {
        let reason = format!("there is no {}; measure first with `mmae tune`, or leave tuning off", path.display());
        return Err(Error::config("train.tuned", reason));
    }
    Table::load(ctx, &path)
}

/// Puts the choices of a run that goes on into effect: those at `path`, which it began with. A run that is `tuned` from now on
/// and was not (`recorded`) takes those of the cache and keeps them at `path`.
///
/// # Errors
/// As [`cached`] and [`Table::load`].
pub(super) fn resume(ctx: &Context, path: &Path, recorded: bool, tuned: bool) -> Result<()> {
    let choices = match (tuned, recorded) {
        (false, _) => Tuning::new(),
        (true, true) => Table::load(ctx, path)?.choices,
        (true, false) => {
            let table = cached(ctx)?;
            table.save(path)?;
            table.choices
        }
    };
    ctx.set_tuning(choices);
    Ok(())
}
