//! A data set as the model sees it: the latents of every sample in one file, for search and for other programs.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value as Json, json};

use super::checkpoint::{Named, load_tensors, save_tensors};
use super::evaluate::upload;
use super::load::LoadedRun;
use crate::data::{Collator, Dataset};
use crate::error::{Error, Result};

/// What the metadata calls this kind of file.
const FORMAT: &str = "mmae-latents";

/// One encoded sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The record's name in its data set.
    pub id: String,
    /// Its first caption; empty where it has none.
    pub caption: String,
    /// Whether its row of `z_image` means anything.
    pub has_image: bool,
    /// Whether its row of `z_text` means anything.
    pub has_text: bool,
}

/// Unit latents of a data set: row i of both tables belongs to sample i.
#[derive(Clone, Debug, PartialEq)]
pub struct Index {
    /// Z.
    pub width: usize,
    /// (n, Z); zeros where a sample has no image.
    pub z_image: Vec<f32>,
    /// (n, Z); zeros where a sample has no caption.
    pub z_text: Vec<f32>,
    /// The samples.
    pub entries: Vec<Entry>,
    /// The run that encoded them.
    pub run: PathBuf,
    /// Steps of training behind its weights.
    pub step: u64,
    /// Samples that could not be used, with the reason.
    pub skipped: Vec<String>,
}

impl Index {
    /// Encodes all usable samples of `dataset`, in its order. `progress` hears how many are done.
    ///
    /// # Errors
    /// `Error::Data` when no sample can be used, else what the device reports.
    pub fn encode(
        loaded: &LoadedRun,
        run: &Path,
        dataset: &Arc<Dataset>,
        mut progress: impl FnMut(usize),
    ) -> Result<Self> {
        let model = &loaded.config.model;
        let tokenizer = Arc::new(loaded.tokenizer.clone());
        let collator = Collator::new(Arc::clone(dataset), tokenizer, model.image_size, model.text_length, 0)?;
        let mut index = Self {
            width: model.latent,
            z_image: Vec::new(),
            z_text: Vec::new(),
            entries: Vec::new(),
            // The file is searched from other folders too.
            run: run.canonicalize().unwrap_or_else(|_| run.into()),
            step: loaded.step,
            skipped: Vec::new(),
        };
        let records: Vec<usize> = (0..dataset.len()).collect();
        for (number, chunk) in records.chunks(loaded.config.train.batch).enumerate() {
            match collator.batch(chunk) {
                Ok(batch) => index.push(loaded, batch)?,
                // A batch without any usable sample; the others may have some.
                Err(error) => index.skipped.push(error.to_string()),
            }
            progress((number * loaded.config.train.batch + chunk.len()).min(records.len()));
        }
        match index.skipped.last() {
            Some(last) if index.entries.is_empty() => {
                Err(Error::data(dataset.path(), format!("no usable record; the last: {last}")))
            }
            _ => Ok(index),
        }
    }

    fn push(&mut self, loaded: &LoadedRun, batch: crate::data::Batch) -> Result<()> {
        let (z_image, z_text) = loaded.model.latents(&upload(&loaded.model, &batch)?)?;
        let present = |table: &mut Vec<f32>, rows: Vec<f32>, has: &[bool]| {
            for (row, has) in rows.chunks(self.width).zip(has) {
                if *has { table.extend(row) } else { table.resize(table.len() + row.len(), 0.0) }
            }
        };
        present(&mut self.z_image, z_image, &batch.has_image);
        present(&mut self.z_text, z_text, &batch.has_text);
        let presence = batch.has_image.into_iter().zip(batch.has_text);
        let named = batch.ids.into_iter().zip(batch.captions).zip(presence);
        self.entries.extend(named.map(|((id, caption), (has_image, has_text))| Entry {
            id,
            caption,
            has_image,
            has_text,
        }));
        self.skipped.extend(batch.skipped);
        Ok(())
    }

    /// The rows that can be found among images (or captions), and the samples they belong to.
    #[must_use]
    pub fn candidates(&self, images: bool) -> (Vec<f32>, Vec<usize>) {
        let table = if images { &self.z_image } else { &self.z_text };
        let has = |entry: &Entry| if images { entry.has_image } else { entry.has_text };
        let mut rows = Vec::new();
        let mut samples = Vec::new();
        for (at, (row, entry)) in table.chunks(self.width).zip(&self.entries).enumerate() {
            if has(entry) {
                rows.extend_from_slice(row);
                samples.push(at);
            }
        }
        (rows, samples)
    }

    /// Writes `z_image` and `z_text` as safetensors, with everything else as JSON in the metadata.
    ///
    /// # Errors
    /// As [`save_tensors`].
    pub fn save(&self, path: &Path) -> Result<()> {
        let shape = vec![self.entries.len(), self.width];
        let table = |name: &str, data: &[f32]| Named { name: name.into(), shape: shape.clone(), data: data.to_vec() };
        let samples: Vec<_> = self
            .entries
            .iter()
            .map(|e| json!({ "id": e.id, "caption": e.caption, "image": e.has_image, "text": e.has_text }))
            .collect();
        let metadata = [
            ("format", FORMAT),
            ("run", &self.run.to_string_lossy()),
            ("step", &self.step.to_string()),
            ("samples", &Json::from(samples).to_string()),
        ];
        save_tensors(path, &[table("z_image", &self.z_image), table("z_text", &self.z_text)], &metadata)
    }

    /// Reads what [`Index::save`] wrote.
    ///
    /// # Errors
    /// `Error::Io`, or `Error::Checkpoint` when the file is damaged or something else.
    pub fn load(path: &Path) -> Result<Self> {
        let (tensors, metadata) = load_tensors(path)?;
        let wrong = |what: &str| {
            Error::checkpoint(path, format!("{what}; write it anew with `mmae encode RUN --data PATH --out FILE`"))
        };
        if metadata.get("format").map(String::as_str) != Some(FORMAT) {
            return Err(wrong("not a file of latents"));
        }
        let entries = entries(&metadata).ok_or_else(|| wrong("the list of samples is damaged"))?;
        let step = metadata.get("step").and_then(|s| s.parse().ok()).ok_or_else(|| wrong("no step"))?;
        let run = metadata.get("run").map(PathBuf::from).ok_or_else(|| wrong("no run"))?;
        let mut tables: BTreeMap<String, Named> = tensors.into_iter().map(|t| (t.name.clone(), t)).collect();
        let mut take = |name: &str| tables.remove(name).ok_or_else(|| wrong(&format!("no {name}")));
        let (image, text) = (take("z_image")?, take("z_text")?);
        match image.shape[..] {
            [n, width] if image.shape == text.shape && n == entries.len() && width > 0 => {
                Ok(Self { width, z_image: image.data, z_text: text.data, entries, run, step, skipped: Vec::new() })
            }
            _ => Err(wrong("tables and samples differ in number")),
        }
    }
}

fn entries(metadata: &BTreeMap<String, String>) -> Option<Vec<Entry>> {
    let samples: Json = serde_json::from_str(metadata.get("samples")?).ok()?;
    let entry = |sample: &Json| {
        let text = |name: &str| Some(sample.get(name)?.as_str()?.to_owned());
        let flag = |name: &str| sample.get(name)?.as_bool();
        Some(Entry { id: text("id")?, caption: text("caption")?, has_image: flag("image")?, has_text: flag("text")? })
    };
    samples.as_array()?.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Index {
        let entry = |id: &str, caption: &str, has_image, has_text| Entry {
            id: id.into(),
            caption: caption.into(),
            has_image,
            has_text,
        };
        Index {
            width: 2,
            z_image: vec![1.0, 0.0, 0.0, 0.0, 0.6, 0.8],
            z_text: vec![0.0, 1.0, 1.0, 0.0, 0.0, 0.0],
            entries: vec![
                entry("a.png", "a \"b\" ü", true, true),
                entry("line 2", "c", false, true),
                entry("d", "", true, false),
            ],
            run: "runs/a".into(),
            step: 7,
            skipped: Vec::new(),
        }
    }

    #[test]
    fn what_is_saved_is_loaded() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index.safetensors");
        small().save(&path).unwrap();
        assert_eq!(Index::load(&path).unwrap(), small());
        let first = std::fs::read(&path).unwrap();
        small().save(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first);
    }

    #[test]
    fn absent_modalities_are_no_candidates() {
        assert_eq!(small().candidates(true), (vec![1.0, 0.0, 0.6, 0.8], vec![0, 2]));
        assert_eq!(small().candidates(false), (vec![0.0, 1.0, 1.0, 0.0], vec![0, 1]));
    }

    #[test]
    fn other_files_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        let table =
            |name: &str, rows: usize| Named { name: name.into(), shape: vec![rows, 2], data: vec![0.0; 2 * rows] };
        let good = [
            ("format", FORMAT),
            ("run", "r"),
            ("step", "1"),
            ("samples", r#"[{"id":"a","caption":"","image":true,"text":false}]"#),
        ];
        let without = |name: &str| good.into_iter().filter(|(k, _)| *k != name).collect::<Vec<_>>();
        let both = vec![table("z_image", 1), table("z_text", 1)];
        let cases = [
            (both.clone(), without("format"), "not a file of latents"),
            (both.clone(), without("samples"), "list of samples"),
            (both.clone(), without("step"), "no step"),
            (both.clone(), without("run"), "no run"),
            (vec![table("z_image", 1)], good.to_vec(), "no z_text"),
            (vec![table("z_image", 1), table("z_text", 2)], good.to_vec(), "differ in number"),
            (vec![table("z_image", 2), table("z_text", 2)], good.to_vec(), "differ in number"),
        ];
        for (tensors, metadata, wanted) in cases {
            save_tensors(&path, &tensors, &metadata).unwrap();
            let error = Index::load(&path).unwrap_err().to_string();
            assert!(error.contains(wanted), "{wanted}: {error}");
        }
        std::fs::write(&path, b"junk").unwrap();
        assert!(Index::load(&path).is_err());
    }
}
