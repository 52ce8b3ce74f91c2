//! A run's folder: `config.toml, tokenizer.json, tuning.json, env.json, metrics.jsonl, events.out.tfevents.*, train.log, loss.svg,
//! samples/, checkpoints/`.

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value as Json;

use super::checkpoint::{folder_name, folder_step};
use super::config::RunConfig;
use super::{files, metrics};
use crate::error::{Error, Result};

/// What a run's folder may contain; `--force` removes these and nothing else.
const CONTENTS: [&str; 9] = [
    "config.toml",
    "tokenizer.json",
    "tuning.json",
    "env.json",
    "metrics.jsonl",
    "train.log",
    "loss.svg",
    "samples",
    "checkpoints",
];
/// TensorBoard finds event files by this beginning of their names.
const EVENTS: &str = "events.out.tfevents.";

/// A folder that holds one run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDir {
    root: PathBuf,
}

impl RunDir {
    /// Makes the folder of a new run, with `config.toml` in it. With `force`, an earlier run there is removed first.
    ///
    /// # Errors
    /// [`Error::Config`] when the folder holds anything and `force` is off, or holds what no run wrote;
    /// [`Error::Io`].
    pub fn create(root: &Path, config: &RunConfig, force: bool) -> Result<Self> {
        let run = Self { root: root.into() };
        for name in Self::check(root, force)? {
            let path = root.join(name);
            let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            removed.map_err(|e| Error::io("remove", &path, e))?;
        }
        for folder in [run.root.clone(), run.checkpoints(), run.samples()] {
            fs::create_dir_all(&folder).map_err(|e| Error::io("create", &folder, e))?;
        }
        files::write(&run.config_path(), config.to_toml().as_bytes())?;
        Ok(run)
    }

    /// Whether [`RunDir::create`] may use this place, before any work is done for it. Returns what it would remove.
    ///
    /// # Errors
    /// As [`RunDir::create`].
    pub fn check(root: &Path, force: bool) -> Result<Vec<String>> {
        let present = Self { root: root.into() }.entries()?;
        let foreign: Vec<_> = present.iter().filter(|name| !is_ours(name)).cloned().collect();
        if !present.is_empty() && !force {
            let reason = format!(
                "{} is not empty; go on with `mmae resume`, choose another name, or replace it with --force",
                root.display()
            );
            return Err(Error::config("run", reason));
        }
        if !foreign.is_empty() {
            let reason = format!("{} holds what no run wrote: {}", root.display(), foreign.join(", "));
            return Err(Error::config("run", reason));
        }
        Ok(present)
    }

    /// Opens the folder of an earlier run and sweeps what an interrupted process left in it.
    ///
    /// # Errors
    /// [`Error::Config`] when it is not a run's folder, [`Error::Io`].
    pub fn open(root: &Path) -> Result<Self> {
        let run = Self::read(root)?;
        for folder in [run.checkpoints(), run.samples()] {
            fs::create_dir_all(&folder).map_err(|e| Error::io("create", &folder, e))?;
            files::sweep(&folder)?;
        }
        files::sweep(&run.root)?;
        Ok(run)
    }

    /// As [`RunDir::open`], to read only: nothing is swept, because the run may still be going on.
    ///
    /// # Errors
    /// [`Error::Config`] when it is not a run's folder.
    pub fn read(root: &Path) -> Result<Self> {
        let run = Self { root: root.into() };
        if !run.config_path().is_file() {
            let reason = format!("{} is not a run: it has no config.toml", root.display());
            return Err(Error::config("run", reason));
        }
        Ok(run)
    }

    /// The folder itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// `config.toml`: the whole configuration in effect.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.root.join("config.toml")
    }

    /// `tokenizer.json`: what made the token ids of this run.
    #[must_use]
    pub fn tokenizer_path(&self) -> PathBuf {
        self.root.join("tokenizer.json")
    }

    /// `tuning.json`: the measured choices that this run goes by, where it goes by any.
    #[must_use]
    pub fn tuning_path(&self) -> PathBuf {
        self.root.join("tuning.json")
    }

    /// `metrics.jsonl`.
    #[must_use]
    pub fn metrics_path(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// `loss.svg`.
    #[must_use]
    pub fn plot_path(&self) -> PathBuf {
        self.root.join("loss.svg")
    }

    /// `checkpoints/`.
    #[must_use]
    pub fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// `samples/`.
    #[must_use]
    pub fn samples(&self) -> PathBuf {
        self.root.join("samples")
    }

    /// `samples/step-NNNNNN.png`.
    #[must_use]
    pub fn sample_path(&self, step: u64) -> PathBuf {
        self.samples().join(format!("{}.png", folder_name(step)))
    }

    /// A new event file's path for a run part that starts at `seconds` since 1970, by TensorBoard's naming.
    #[must_use]
    pub fn events_path(&self, seconds: u64) -> PathBuf {
        self.root.join(format!("{EVENTS}{seconds}.{}.mmae", std::process::id()))
    }

    /// Writes `env.json`: versions, adapter, driver, command line of the part of the run that begins. Those of earlier parts
    /// move to its list `earlier`, oldest first; a file that cannot be read is replaced.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn write_environment(&self, mut environment: serde_json::Map<String, Json>) -> Result<()> {
        let path = self.root.join("env.json");
        let text = files::read_text(&path).unwrap_or_default();
        if let Ok(Json::Object(mut last)) = serde_json::from_str(&text) {
            let mut earlier = match last.remove("earlier") {
                Some(Json::Array(all)) => all,
                _ => Vec::new(),
            };
            earlier.push(last.into());
            environment.insert("earlier".into(), earlier.into());
        }
        files::write(&path, format!("{:#}\n", Json::Object(environment)).as_bytes())
    }

    /// Adds a line to `train.log`, with the time (UTC) in front.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn log(&self, line: &str) -> Result<()> {
        let path = self.root.join("train.log");
        let open: std::io::Result<File> = OpenOptions::new().create(true).append(true).open(&path);
        open.and_then(|mut file| writeln!(file, "{} {line}", timestamp(now())))
            .map_err(|e| Error::io("write", &path, e))
    }

    /// The checkpoint folder that `checkpoints/latest` names.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] when there is none to go on from.
    pub fn latest(&self) -> Result<PathBuf> {
        let pointer = self.checkpoints().join("latest");
        let name =
            files::read_text(&pointer).map_err(|_| Error::checkpoint(&pointer, "this run has no checkpoint yet"))?;
        let name = name.trim();
        let folder = self.checkpoints().join(name);
        if folder_step(name).is_none() || !folder.is_dir() {
            return Err(Error::checkpoint(&pointer, format!("names `{name}`, which is not a checkpoint folder here")));
        }
        Ok(folder)
    }

    /// Steps of the checkpoints present, ascending.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn steps(&self) -> Result<Vec<u64>> {
        let mut steps: Vec<_> = names(&self.checkpoints())?.iter().filter_map(|name| folder_step(name)).collect();
        steps.sort_unstable();
        Ok(steps)
    }

    /// Removes all but the newest `keep` checkpoints (0 keeps all); the one that `latest` names always stays.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn prune(&self, keep: usize) -> Result<()> {
        if keep == 0 {
            return Ok(());
        }
        let latest = self.latest().ok();
        for step in self.steps()?.into_iter().rev().skip(keep) {
            let folder = self.checkpoints().join(folder_name(step));
            if latest.as_ref() != Some(&folder) {
                files::remove_folder(&folder)?;
            }
        }
        Ok(())
    }

    /// Takes the run back to `step`: metrics of later steps go, and later checkpoints, whose steps will be done again.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn rewind(&self, step: u64) -> Result<()> {
        metrics::truncate(&self.metrics_path(), step)?;
        let name = folder_name(step);
        if self.checkpoints().join(&name).is_dir() {
            files::write(&self.checkpoints().join("latest"), format!("{name}\n").as_bytes())?;
        }
        for later in self.steps()?.into_iter().filter(|later| *later > step) {
            let folder = self.checkpoints().join(folder_name(later));
            files::remove_folder(&folder)?;
        }
        Ok(())
    }

    fn entries(&self) -> Result<Vec<String>> {
        if self.root.exists() { names(&self.root) } else { Ok(Vec::new()) }
    }
}

fn is_ours(name: &str) -> bool {
    CONTENTS.contains(&name) || name.starts_with(EVENTS) || files::is_temporary(name)
}

fn names(folder: &Path) -> Result<Vec<String>> {
    let listed = fs::read_dir(folder).and_then(|entries| {
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<std::io::Result<Vec<_>>>()
    });
    let mut names = listed.map_err(|e| Error::io("list", folder, e))?;
    names.sort();
    Ok(names)
}

/// The name of a run that is given none: `NAME-YYYYmmdd-HHMMSS`, UTC.
#[must_use]
pub fn default_name(name: &str, seconds: u64) -> String {
    let [year, month, day, hour, minute, second] = calendar(seconds);
    format!("{name}-{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
}

/// `YYYY-mm-ddTHH:MM:SSZ` of `seconds` since 1970.
#[must_use]
pub fn timestamp(seconds: u64) -> String {
    let [year, month, day, hour, minute, second] = calendar(seconds);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Seconds since 1970; 0 on a clock set before.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}

/// Year, month, day, hour, minute, second (UTC) in the Gregorian calendar. Years are counted from March so that the leap
/// day comes last, and 719,468 days lie between 1 March of year 0 and 1970.
fn calendar(seconds: u64) -> [u64; 6] {
    let days = seconds / 86_400 + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    // March, May, July … alternate 31 and 30 days: 153 days in five months.
    let from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    [year, month, day, seconds / 3600 % 24, seconds / 60 % 60, seconds % 60]
}

#[cfg(test)]
#[path = "run_dir_tests.rs"]
mod tests;
