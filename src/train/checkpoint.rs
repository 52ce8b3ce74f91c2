//! Checkpoints: a folder of `model.safetensors`, `optimizer.safetensors` and `state.json`, written whole or not at all.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors, View};
use serde_json::{Map, Value as Json, json};

use super::config::RunConfig;
use super::files;
use super::resolve::{model_from_json, model_to_json};
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::fields::Section;

/// A tensor on the host: row-major f32.
#[derive(Debug, Clone, PartialEq)]
pub struct Named {
    /// Its name in the file, for example `image.encoder.pos`.
    pub name: String,
    /// Its shape; empty for a single number.
    pub shape: Vec<usize>,
    /// Its values, as many as the shape says.
    pub data: Vec<f32>,
}

/// A name and the shape that must stand under it.
pub type Expected = (String, Vec<usize>);

impl View for &Named {
    fn dtype(&self) -> Dtype {
        Dtype::F32
    }
    fn shape(&self) -> &[usize] {
        &self.shape
    }
    fn data(&self) -> Cow<'_, [u8]> {
        self.data.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<_>>().into()
    }
    fn data_len(&self) -> usize {
        self.data.len() * size_of::<f32>()
    }
}

/// Writes tensors and text metadata as a safetensors file. Equal input gives equal bytes.
///
/// # Errors
/// [`Error::Checkpoint`] when names repeat or a shape does not fit its data, [`Error::Io`].
pub fn save_tensors(path: &Path, tensors: &[Named], metadata: &[(&str, &str)]) -> Result<()> {
    let mut seen = BTreeSet::new();
    for tensor in tensors {
        let elements = tensor.shape.iter().try_fold(1usize, |product, side| product.checked_mul(*side));
        if elements != Some(tensor.data.len()) {
            let reason = format!("{}: shape {:?} but {} values", tensor.name, tensor.shape, tensor.data.len());
            return Err(Error::checkpoint(path, reason));
        }
        if !seen.insert(&tensor.name) {
            return Err(Error::checkpoint(path, format!("two tensors are called {}", tensor.name)));
        }
    }
    let pairs: HashMap<_, _> = metadata.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let views = tensors.iter().map(|tensor| (tensor.name.as_str(), tensor));
    let mut bytes = safetensors::serialize(views, Some(pairs)).map_err(|e| Error::checkpoint(path, e))?;
    sort_metadata(&mut bytes).ok_or_else(|| Error::checkpoint(path, "the header cannot be sorted"))?;
    files::write(path, &bytes)
}

/// Puts the metadata of a safetensors file in order of its keys. The format's crate writes them in the order of a hash
/// map, another one in every process.
fn sort_metadata(file: &mut [u8]) -> Option<()> {
    let (length, rest) = file.split_first_chunk_mut::<8>()?;
    let header = rest.get_mut(..usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
    let mut parsed: Map<String, Json> = serde_json::from_slice(header).ok()?;
    if let Some(Json::Object(pairs)) = parsed.get_mut("__metadata__") {
        let sorted: BTreeMap<_, _> = std::mem::take(pairs).into_iter().collect();
        *pairs = sorted.into_iter().collect();
    }
    let mut text = serde_json::to_vec(&parsed).ok()?;
    if text.len() > header.len() {
        return None;
    }
    text.resize(header.len(), b' ');
    header.copy_from_slice(&text);
    Some(())
}

/// The tensors and the text metadata of a safetensors file, in order of their place in it.
///
/// # Errors
/// [`Error::Io`] when it cannot be read, [`Error::Checkpoint`] when it is damaged, cut short or not all f32.
pub fn load_tensors(path: &Path) -> Result<(Vec<Named>, BTreeMap<String, String>)> {
    let bytes = std::fs::read(path).map_err(|e| Error::io("read", path, e))?;
    let file =
        SafeTensors::deserialize(&bytes).map_err(|e| Error::checkpoint(path, format!("damaged or cut short: {e}")))?;
    let (_, header) = SafeTensors::read_metadata(&bytes).map_err(|e| Error::checkpoint(path, e))?;
    let metadata = header.metadata().iter().flatten().map(|(k, v)| (k.clone(), v.clone())).collect();
    let mut tensors = Vec::with_capacity(file.len());
    for (name, view) in file.iter() {
        if view.dtype() != Dtype::F32 {
            return Err(Error::checkpoint(path, format!("{name} is {:?}, expected F32", view.dtype())));
        }
        let (words, _) = view.data().as_chunks::<4>();
        let data = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        tensors.push(Named { name: name.to_owned(), shape: view.shape().to_vec(), data });
    }
    Ok((tensors, metadata))
}

/// Puts loaded tensors in the order of `expected`, refusing anything missing, unexpected or of another shape.
///
/// # Errors
/// [`Error::Checkpoint`] that lists every difference.
pub fn matched(path: &Path, tensors: Vec<Named>, expected: &[Expected]) -> Result<Vec<Named>> {
    let mut found: BTreeMap<String, Named> = tensors.into_iter().map(|t| (t.name.clone(), t)).collect();
    let mut ordered = Vec::with_capacity(expected.len());
    let (mut missing, mut shapes) = (Vec::new(), Vec::new());
    for (name, shape) in expected {
        match found.remove(name) {
            None => missing.push(name.clone()),
            Some(tensor) if tensor.shape != *shape => {
                shapes.push(format!("{name} is {:?}, expected {shape:?}", tensor.shape));
            }
            Some(tensor) => ordered.push(tensor),
        }
    }
    let extra: Vec<_> = found.into_keys().collect();
    let mut reasons = Vec::new();
    for (what, list) in [("missing", missing), ("unexpected", extra), ("wrong shape", shapes)] {
        if !list.is_empty() {
            reasons.push(format!("{what}: {}", list.join(", ")));
        }
    }
    if reasons.is_empty() { Ok(ordered) } else { Err(Error::checkpoint(path, reasons.join("; "))) }
}

/// Writes a model's weights with its configuration beside them.
///
/// # Errors
/// As [`save_tensors`].
pub fn save_weights(path: &Path, tensors: &[Named], model: &ModelConfig) -> Result<()> {
    save_tensors(path, tensors, &[("format", "mmae"), ("config", &model_to_json(model))])
}

/// Reads a model's weights and the configuration that they were saved with.
///
/// # Errors
/// [`Error::Io`], or [`Error::Checkpoint`] when the file is damaged or carries no usable configuration.
pub fn load_weights(path: &Path) -> Result<(Vec<Named>, ModelConfig)> {
    let (tensors, metadata) = load_tensors(path)?;
    if metadata.get("format").map(String::as_str) != Some("mmae") {
        return Err(Error::checkpoint(path, "the metadata does not say format \"mmae\""));
    }
    let text = metadata.get("config").ok_or_else(|| Error::checkpoint(path, "the metadata has no config"))?;
    let json = serde_json::from_str(text).map_err(|e| Error::checkpoint(path, format!("config: {e}")))?;
    Ok((tensors, model_from_json(&json).map_err(|e| Error::checkpoint(path, e))?))
}

/// Refuses weights that were saved for another model.
///
/// # Errors
/// [`Error::Checkpoint`] listing the fields that differ, saved value first.
pub fn require_same_model(path: &Path, saved: &ModelConfig, wanted: &ModelConfig) -> Result<()> {
    match saved.differences(wanted) {
        none if none.is_empty() => Ok(()),
        some => Err(Error::checkpoint(path, format!("saved for another model; saved and wanted {}", some.join(", ")))),
    }
}

/// What `state.json` holds: all that a run needs beside tensors to go on where it stopped.
#[derive(Debug, Clone, PartialEq)]
pub struct State {
    /// Steps done.
    pub step: u64,
    /// Seed of the run.
    pub seed: u64,
    /// Loss scale, for people; [`State::control`] is what is restored.
    pub loss_scale: f32,
    /// The device's control words (loss scale, good steps, update count …) bit for bit.
    pub control: Vec<u32>,
    /// Where the data stands.
    pub position: Position,
    /// The whole configuration.
    pub config: RunConfig,
    /// Names and versions of what wrote this (`mmae`, `wgpu`, the adapter, the driver), and by which way it computed: see
    /// [`versions`](super::versions::versions).
    pub versions: BTreeMap<String, String>,
}

/// Where the data stands: the order of an epoch follows from the seed and its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Passes over the data that are complete.
    pub epoch: u64,
    /// Samples taken in the present pass.
    pub sample: u64,
}

impl State {
    /// The file's text.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut json = Map::new();
        json.insert("step".into(), self.step.into());
        json.insert("seed".into(), self.seed.into());
        json.insert("loss_scale".into(), self.loss_scale.into());
        json.insert("control".into(), self.control.clone().into());
        json.insert("position".into(), json!({"epoch": self.position.epoch, "sample": self.position.sample}));
        json.extend(self.config.to_json());
        json.insert(
            "versions".into(),
            self.versions.iter().map(|(k, v)| (k.clone(), Json::from(v.as_str()))).collect(),
        );
        format!("{:#}\n", Json::Object(json))
    }

    /// Reads the file's text; `path` is for messages.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] naming what is missing or wrong.
    pub fn from_json(path: &Path, text: &str) -> Result<Self> {
        let json: Map<String, Json> = serde_json::from_str(text).map_err(|e| Error::checkpoint(path, e))?;
        let wrong = |name: &str| Error::checkpoint(path, format!("`{name}` is missing or not what it should be"));
        let number =
            |at: &Map<String, Json>, name: &str| at.get(name).and_then(Json::as_u64).ok_or_else(|| wrong(name));
        let position = json.get("position").and_then(Json::as_object).ok_or_else(|| wrong("position"))?;
        let words = json.get("control").and_then(Json::as_array).ok_or_else(|| wrong("control"))?;
        let word = |v: &Json| v.as_u64().and_then(|v| u32::try_from(v).ok()).ok_or_else(|| wrong("control"));
        let versions = json.get("versions").and_then(Json::as_object).ok_or_else(|| wrong("versions"))?;
        Ok(Self {
            step: number(&json, "step")?,
            seed: number(&json, "seed")?,
            loss_scale: json.get("loss_scale").and_then(Json::as_f64).ok_or_else(|| wrong("loss_scale"))? as f32,
            control: words.iter().map(word).collect::<Result<_>>()?,
            position: Position { epoch: number(position, "epoch")?, sample: number(position, "sample")? },
            config: RunConfig::from_json(&json).map_err(|e| Error::checkpoint(path, e))?,
            versions: versions.iter().filter_map(|(k, v)| Some((k.clone(), v.as_str()?.to_owned()))).collect(),
        })
    }
}

/// The three files of a checkpoint in memory.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Step, configuration and everything small.
    pub state: State,
    /// Every parameter, frozen ones included.
    pub model: Vec<Named>,
    /// `m.<name>` and `v.<name>` of every trained parameter.
    pub optimizer: Vec<Named>,
}

/// The folder name of the checkpoint after `step` steps.
#[must_use]
pub fn folder_name(step: u64) -> String {
    format!("step-{step:06}")
}

/// The step of a checkpoint folder's name; `None` for other names.
#[must_use]
pub fn folder_step(name: &str) -> Option<u64> {
    let step = name.strip_prefix("step-")?.parse().ok()?;
    (folder_name(step) == name).then_some(step)
}

impl Checkpoint {
    /// Writes `checkpoints/step-NNNNNN`, then points `checkpoints/latest` at it. Returns the folder.
    ///
    /// # Errors
    /// [`Error::Io`] (a full disk, for example) or [`Error::Checkpoint`]; earlier checkpoints and `latest` are then
    /// unchanged.
    pub fn save(&self, checkpoints: &Path) -> Result<PathBuf> {
        let name = folder_name(self.state.step);
        let folder = checkpoints.join(&name);
        files::write_folder(&folder, |inside| {
            save_weights(&inside.join("model.safetensors"), &self.model, &self.state.config.model)?;
            save_tensors(&inside.join("optimizer.safetensors"), &self.optimizer, &[("format", "mmae")])?;
            files::write(&inside.join("state.json"), self.state.to_json().as_bytes())
        })?;
        files::write(&checkpoints.join("latest"), format!("{name}\n").as_bytes())?;
        Ok(folder)
    }

    /// Reads a checkpoint folder, whose tensors must be exactly `model` and `optimizer` as [`matched`] demands; the two
    /// lists follow from the saved configuration, which `expected` receives.
    ///
    /// # Errors
    /// [`Error::Io`] or [`Error::Checkpoint`]; nothing of a bad checkpoint is returned.
    pub fn load(
        folder: &Path,
        expected: impl FnOnce(&RunConfig) -> Result<(Vec<Expected>, Vec<Expected>)>,
    ) -> Result<Self> {
        let path = folder.join("state.json");
        let state = State::from_json(&path, &files::read_text(&path)?)?;
        let (model, optimizer) = expected(&state.config)?;
        let path = folder.join("model.safetensors");
        let (tensors, saved) = load_weights(&path)?;
        require_same_model(&path, &saved, &state.config.model)?;
        let model = matched(&path, tensors, &model)?;
        let path = folder.join("optimizer.safetensors");
        let optimizer = matched(&path, load_tensors(&path)?.0, &optimizer)?;
        Ok(Self { state, model, optimizer })
    }
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
