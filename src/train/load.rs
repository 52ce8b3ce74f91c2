//! A trained model from its files, ready to run: weights, tokenizer, configuration.

use std::path::{Path, PathBuf};

use super::checkpoint::{Named, State, folder_name, load_weights, matched, require_same_model};
use super::config::{Precision, RunConfig};
use super::files::read_text;
use super::run_dir::RunDir;
use super::trainer::expected;
use crate::data::Tokenizer;
use crate::device::Context;
use crate::error::{Error, Result};
use crate::model::m2ae::{Build, M2ae};
use crate::shape::DType;

/// The tokenizer's file in a run's folder.
pub const TOKENIZER: &str = "tokenizer.json";

/// A model for inference: every parameter frozen, no optimiser state in memory.
pub struct LoadedRun {
    /// The model with its trained weights.
    pub model: M2ae,
    /// The tokenizer that it was trained with.
    pub tokenizer: Tokenizer,
    /// What the run was told.
    pub config: RunConfig,
    /// Steps of training behind these weights.
    pub step: u64,
}

impl LoadedRun {
    /// Loads a run's folder (its latest checkpoint, or that of `step`), or one checkpoint folder.
    ///
    /// # Errors
    /// `Error::Config` when `path` is neither; `Error::Checkpoint` when the run has no (such) checkpoint yet, or a file is
    /// damaged, cut short, or belongs to another model; nothing of it is loaded then.
    pub fn open(ctx: &Context, path: &Path, step: Option<u64>) -> Result<Self> {
        let folder = checkpoint_folder(path, step)?;
        let tokenizer = Tokenizer::from_file(tokenizer_path(path, &folder)?)?;
        let (state, tensors) = read(&folder)?;
        let config = state.config;
        if tokenizer.vocab() > config.model.vocab {
            let reason = format!("{TOKENIZER} has {} ids, the model only {}", tokenizer.vocab(), config.model.vocab);
            return Err(Error::checkpoint(&folder, reason));
        }
        let precision = match config.train.precision {
            Precision::F32 => DType::F32,
            Precision::F16 => DType::F16,
        };
        // Every name begins with the empty prefix: nothing is trained, so no gradients and moments take memory.
        let build = Build { precision, freeze: vec![String::new()], ..Build::default() };
        let model = M2ae::new(ctx, &config.model, &config.loss, &build)?;
        let entries: Vec<_> = tensors.into_iter().map(|t| (t.name, t.shape, t.data)).collect();
        model.params.load(&entries)?;
        Ok(Self { model, tokenizer, config, step: state.step })
    }
}

/// State and weights of a checkpoint folder, without the optimiser's part.
fn read(folder: &Path) -> Result<(State, Vec<Named>)> {
    let path = folder.join("state.json");
    let state = State::from_json(&path, &read_text(&path)?)?;
    let path = folder.join("model.safetensors");
    let (tensors, saved) = load_weights(&path)?;
    require_same_model(&path, &saved, &state.config.model)?;
    let tensors = matched(&path, tensors, &expected(&state.config).0)?;
    Ok((state, tensors))
}

fn checkpoint_folder(path: &Path, step: Option<u64>) -> Result<PathBuf> {
    if path.join("state.json").is_file() {
        return match step {
            None => Ok(path.into()),
            Some(_) => {
                let reason = format!("{} is one checkpoint already; give the run's folder instead", path.display());
                Err(Error::config("--checkpoint", reason))
            }
        };
    }
    if !path.exists() {
        return Err(Error::config("run", format!("there is no folder {}", path.display())));
    }
    let run = RunDir::read(path)?;
    let Some(step) = step else { return run.latest() };
    let folder = run.checkpoints().join(folder_name(step));
    if folder.is_dir() {
        return Ok(folder);
    }
    let present: Vec<_> = run.steps()?.iter().map(u64::to_string).collect();
    let present = if present.is_empty() { "none yet".to_owned() } else { present.join(", ") };
    Err(Error::checkpoint(&folder, format!("no checkpoint of step {step}; there are: {present}")))
}

/// `tokenizer.json` beside the checkpoint, or in the run's folder two levels up.
fn tokenizer_path(path: &Path, folder: &Path) -> Result<PathBuf> {
    let run = folder.parent().and_then(Path::parent);
    let places = [Some(path), Some(folder), run];
    let found = places.into_iter().flatten().map(|place| place.join(TOKENIZER)).find(|file| file.is_file());
    found.ok_or_else(|| Error::checkpoint(folder, format!("its run has no {TOKENIZER}")))
}

#[cfg(test)]
#[path = "load_tests.rs"]
mod tests;
