//! Records to batches: decode, tokenize, stack. Decoded samples are kept in memory up to a budget.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::augment::Augment;
use super::dataset::Dataset;
use super::decode::{MAX_SIDE, append_planes, load};
use super::order::{CAPTION, Place, below, hash};
use super::sample::{Batch, Blob, Record};
use super::tokenizer::{PAD, Tokenizer};
use crate::error::{Error, Result};

/// Turns records of one data set into batches of fixed image side S and text length L. Shared by threads.
#[derive(Debug)]
pub struct Collator {
    dataset: Arc<Dataset>,
    tokenizer: Arc<Tokenizer>,
    image_size: usize,
    text_length: usize,
    kept: Mutex<Kept>,
}

/// What is remembered: decoded samples while the budget lasts, and why records are bad (so that each is tried once).
#[derive(Debug)]
struct Kept {
    budget: usize,
    good: HashMap<usize, Arc<Decoded>>,
    bad: HashMap<usize, String>,
}

/// A record with its image fitted: (S, S, 3) bytes.
#[derive(Debug)]
struct Decoded {
    record: Record,
    pixels: Option<Vec<u8>>,
}

/// How the drawn parts of a sample are chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Draw {
    pub seed: u64,
    pub augment: Augment,
}

impl Collator {
    /// Keeps up to `cache_bytes` of decoded samples.
    ///
    /// # Errors
    /// An image side or text length that no model has.
    pub fn new(
        dataset: Arc<Dataset>,
        tokenizer: Arc<Tokenizer>,
        image_size: usize,
        text_length: usize,
        cache_bytes: usize,
    ) -> Result<Self> {
        check_sizes(image_size, text_length)?;
        let kept = Mutex::new(Kept { budget: cache_bytes, good: HashMap::new(), bad: HashMap::new() });
        Ok(Self { dataset, tokenizer, image_size, text_length, kept })
    }

    /// The data set.
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.dataset
    }

    /// The given records in this order, each with its first caption and without augmentation: for evaluation. Records
    /// that cannot be used are left out and named in `skipped`; `indices` tells which ones remain.
    ///
    /// # Errors
    /// When not one of them can be used: the last reason.
    pub fn batch(&self, indices: &[usize]) -> Result<Batch> {
        let mut batch = Batch::default();
        for &index in indices {
            if let Err(reason) = self.append(&mut batch, Place { epoch: 0, sample: index }, None) {
                batch.skipped.push(reason);
            }
        }
        match batch.skipped.last() {
            Some(reason) if batch.size == 0 => Err(Error::data(
                self.dataset.path(),
                format_args!("no usable record in this batch; the last: {reason}"),
            )),
            _ => Ok(batch),
        }
    }

    /// Add one sample, with drawn caption and augmentation when `draw` is given. On an error, the reason with file and
    /// record, the batch is as before.
    pub(super) fn append(&self, batch: &mut Batch, place: Place, draw: Option<Draw>) -> Result<(), String> {
        let decoded = self.decoded(place.sample)?;
        let captions = &decoded.record.captions;
        let choice = draw.map_or(0, |draw| {
            below(hash(draw.seed, [CAPTION, place.epoch, place.sample as u64]), captions.len() as u64) as usize
        });
        let caption = captions.get(choice).map(String::as_str);
        let tokens = caption.map(|text| self.tokenizer.encode(text, self.text_length)).transpose();
        let tokens = tokens.map_err(|e| format!("{}: {e}", decoded.record.id))?;
        let changed = match (&decoded.pixels, draw) {
            (Some(pixels), Some(Draw { seed, augment })) if !augment.is_off() => {
                Some(augment.apply(pixels, self.image_size, seed, place.epoch, place.sample)?)
            }
            _ => None,
        };
        let pixels = changed.as_ref().or(decoded.pixels.as_ref());
        push(batch, self.image_size, self.text_length, pixels.map(Vec::as_slice), caption.zip(tokens));
        batch.ids.push(decoded.record.id.clone());
        batch.indices.push(place.sample);
        Ok(())
    }

    fn decoded(&self, index: usize) -> Result<Arc<Decoded>, String> {
        {
            let kept = self.kept();
            if let Some(decoded) = kept.good.get(&index) {
                return Ok(Arc::clone(decoded));
            }
            if let Some(reason) = kept.bad.get(&index) {
                return Err(reason.clone());
            }
        }
        // Not under the lock: two threads may decode one image at once, with the same outcome.
        let outcome = self.dataset.record(index).and_then(|record| {
            let pixels = record.image.as_ref().map(|blob| load(blob, self.image_size)).transpose()?;
            Ok(Arc::new(Decoded { record, pixels }))
        });
        let mut kept = self.kept();
        match outcome {
            Ok(decoded) => {
                let text: usize = decoded.record.captions.iter().map(String::len).sum();
                let bytes = size_of::<Decoded>() + text + decoded.pixels.as_ref().map_or(0, Vec::len);
                if bytes <= kept.budget && kept.good.insert(index, Arc::clone(&decoded)).is_none() {
                    kept.budget -= bytes;
                }
                Ok(decoded)
            }
            Err(error) => {
                let reason = error.to_string();
                kept.bad.insert(index, reason.clone());
                Err(reason)
            }
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        // A panic elsewhere leaves the maps whole: every change to them is one insertion.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A batch of one from an image file, a caption, or both: what `encode`, `search` and `reconstruct` are given.
///
/// # Errors
/// An image that cannot be used, named; or neither image nor caption.
pub fn batch_from(
    tokenizer: &Tokenizer,
    image: Option<&Path>,
    caption: Option<&str>,
    image_size: usize,
    text_length: usize,
) -> Result<Batch> {
    check_sizes(image_size, text_length)?;
    let caption = caption.map(str::trim).filter(|text| !text.is_empty());
    if image.is_none() && caption.is_none() {
        return Err(Error::config("input", "neither an image nor a caption was given"));
    }
    let pixels = image.map(|path| load(&Blob::file(path, ""), image_size)).transpose()?;
    let tokens = caption.map(|text| tokenizer.encode(text, text_length)).transpose()?;
    let mut batch = Batch::default();
    push(&mut batch, image_size, text_length, pixels.as_deref(), caption.zip(tokens));
    batch.ids.push(image.map_or_else(|| caption.unwrap_or_default().to_owned(), |path| path.display().to_string()));
    batch.indices.push(0);
    Ok(batch)
}

fn check_sizes(image_size: usize, text_length: usize) -> Result<()> {
    if !(1..=MAX_SIDE as usize).contains(&image_size) {
        return Err(Error::config("model.image_size", format_args!("{image_size} is not between 1 and {MAX_SIDE}")));
    }
    if text_length < 2 {
        return Err(Error::config("model.text_length", "at least 2: the start and the end token"));
    }
    Ok(())
}

/// Add one row to every field but `ids` and `indices`.
fn push(batch: &mut Batch, side: usize, length: usize, pixels: Option<&[u8]>, text: Option<(&str, Vec<u32>)>) {
    batch.size += 1;
    match pixels {
        Some(pixels) => append_planes(pixels, &mut batch.image),
        None => batch.image.resize(batch.image.len() + 3 * side * side, 0.0),
    }
    batch.has_image.push(pixels.is_some());
    batch.has_text.push(text.is_some());
    let (caption, tokens) = text.unwrap_or_else(|| ("", vec![PAD; length]));
    batch.captions.push(caption.to_owned());
    batch.tokens.extend(tokens);
}

#[cfg(test)]
mod tests {
    use super::super::fixtures::{folder, png};
    use super::*;

    fn collator(path: &Path, cache: usize) -> Collator {
        let dataset = Arc::new(Dataset::open(path).unwrap());
        let tokenizer = Arc::new(Tokenizer::train(&dataset.captions(), 100).unwrap());
        Collator::new(dataset, tokenizer, 4, 6, cache).unwrap()
    }

    #[test]
    fn absent_modalities_are_zeros() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("a.png"), png(5, 4, [51, 0, 255])).unwrap();
        std::fs::write(dir.path().join("captions.csv"), "file,caption\na.png,\n,words\na.png,words\n").unwrap();
        let batch = collator(dir.path(), 0).batch(&[2, 0, 1]).unwrap();
        assert_eq!((batch.size, batch.image.len(), batch.tokens.len()), (3, 3 * 48, 18));
        assert_eq!(batch.has_image, [true, true, false]);
        assert_eq!(batch.has_text, [true, false, true]);
        assert_eq!(batch.captions, ["words", "", "words"]);
        assert_eq!(batch.ids, ["a.png", "a.png", "line 3"]);
        assert_eq!(batch.indices, [2, 0, 1]);
        for (row, image) in batch.image.chunks(48).enumerate() {
            let wanted = if row < 2 { [0.2, 0.0, 1.0] } else { [0.0; 3] };
            assert!(image.chunks(16).zip(wanted).all(|(plane, v)| plane.iter().all(|&x| x == v)), "row {row}");
        }
        assert_eq!(batch.tokens[6..12], [0; 6]);
        assert_eq!((batch.tokens[0], batch.tokens[12]), (1, 1));
    }

    #[test]
    fn bad_records_are_left_out_and_named_and_all_bad_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        folder(dir.path(), 4, &[1, 2]);
        let collator = collator(dir.path(), 1 << 20);
        for _ in 0..2 {
            let batch = collator.batch(&[0, 1, 2, 3]).unwrap();
            assert_eq!((batch.size, batch.indices.as_slice()), (2, [0, 3].as_slice()));
            assert_eq!(batch.skipped.len(), 2);
            assert!(batch.skipped[1].contains("2.png") && batch.skipped[1].contains("line 4"), "{:?}", batch.skipped);
        }
        assert!(collator.batch(&[1, 2]).unwrap_err().to_string().contains("2.png"));
        assert!(collator.batch(&[77]).unwrap_err().to_string().contains("has 4 records"));
    }

    #[test]
    fn a_cached_sample_is_read_once_and_the_budget_is_held() {
        let dir = tempfile::tempdir().unwrap();
        folder(dir.path(), 3, &[]);
        // Room for one sample and a half.
        let collator = collator(dir.path(), (size_of::<Decoded>() + 48 + 9) * 3 / 2);
        let before = collator.batch(&[0, 1]).unwrap();
        assert_eq!(collator.kept().good.len(), 1);
        std::fs::remove_file(dir.path().join("0.png")).unwrap();
        std::fs::remove_file(dir.path().join("1.png")).unwrap();
        let after = collator.batch(&[0, 1]).unwrap();
        assert_eq!((after.size, after.indices[0]), (1, 0));
        assert_eq!(after.image[..], before.image[..48]);
    }

    #[test]
    fn one_image_or_caption_makes_a_batch() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.png");
        std::fs::write(&path, png(2, 2, [255, 255, 255])).unwrap();
        let tokenizer = Tokenizer::train(&["a word"], 50).unwrap();
        let both = batch_from(&tokenizer, Some(&path), Some("a word"), 2, 4).unwrap();
        assert_eq!((both.size, both.image.as_slice()), (1, [1.0; 12].as_slice()));
        assert_eq!((both.has_image[0], both.has_text[0]), (true, true));
        let text = batch_from(&tokenizer, None, Some("a word"), 2, 4).unwrap();
        assert_eq!(
            (text.image.as_slice(), text.has_image[0], &text.tokens),
            ([0.0; 12].as_slice(), false, &both.tokens)
        );
        let cases = [
            (batch_from(&tokenizer, None, Some("  "), 2, 4), "neither"),
            (batch_from(&tokenizer, Some(&dir.path().join("b.png")), None, 2, 4), "b.png"),
            (batch_from(&tokenizer, Some(&path), None, 0, 4), "model.image_size"),
            (batch_from(&tokenizer, Some(&path), None, 2, 1), "model.text_length"),
        ];
        for (got, wanted) in cases {
            let error = got.unwrap_err().to_string();
            assert!(error.contains(wanted), "{error}");
        }
    }
}
