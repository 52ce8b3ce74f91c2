//! How well a model reconstructs and retrieves the samples of a data set.

use crate::data::{Batch, Collator};
use crate::error::{Error, Result};
use crate::eval::image::{Scores, mean_image as mean_of};
use crate::eval::report::Report;
use crate::eval::retrieval::retrieve;
use crate::model::generate::Shown;
use crate::model::inputs::{HostBatch, Inputs};
use crate::model::m2ae::M2ae;

/// The k of recall@k.
pub const RANKS: [usize; 3] = [1, 5, 10];

/// Uploads a batch for inference, every modality that is there shown.
///
/// # Errors
/// As [`Inputs::upload`].
pub fn upload(model: &M2ae, batch: &Batch) -> Result<Inputs> {
    let shown = vec![true; batch.size];
    model.inputs(&HostBatch {
        image: &batch.image,
        tokens: &batch.tokens,
        has_image: &batch.has_image,
        has_text: &batch.has_text,
        show_image: &shown,
        show_text: &shown,
    })
}

/// The usable samples of a data set in its order, `size` at a time; the reasons of the others go to `skipped`.
fn batches<'a>(
    collator: &'a Collator,
    size: usize,
    skipped: &'a mut Vec<String>,
) -> impl Iterator<Item = Batch> + use<'a> {
    let samples: Vec<usize> = (0..collator.dataset().len()).collect();
    let chunks: Vec<Vec<usize>> = samples.chunks(size.max(1)).map(<[usize]>::to_vec).collect();
    chunks.into_iter().filter_map(move |indices| match collator.batch(&indices) {
        Ok(batch) => {
            skipped.extend(batch.skipped.iter().cloned());
            Some(batch)
        }
        // Not one record of this chunk is usable; others may be.
        Err(error) => {
            skipped.push(error.to_string());
            None
        }
    })
}

/// The mean image (3, S, S) of a data set: what the reconstructions must beat.
///
/// # Errors
/// `Error::Data` when no sample has a usable image.
pub fn mean_image(collator: &Collator, batch: usize) -> Result<Vec<f32>> {
    let mut skipped = Vec::new();
    let images = batches(collator, batch, &mut skipped).flat_map(|batch| {
        let size = batch.image.len() / batch.size.max(1);
        let rows = batch.image.chunks(size.max(1)).zip(&batch.has_image).filter(|(_, has)| **has);
        rows.map(|(row, _)| row.to_vec()).collect::<Vec<_>>()
    });
    let mean = mean_of(images);
    mean.map_err(|_| Error::data(collator.dataset().path(), none_usable("image", &skipped)))
}

fn none_usable(what: &str, skipped: &[String]) -> String {
    let last = skipped.last().map(|reason| format!("; the last problem: {reason}")).unwrap_or_default();
    format!("no sample has a usable {what}{last}")
}

/// What the samples gave so far.
#[derive(Default)]
struct Sums {
    image: Scores,
    mean_image: Scores,
    from_text: Scores,
    /// Tokens of captions, and how many of them came back.
    tokens: (u64, u64),
    /// (n, Z) each, of the samples that have both.
    z_image: Vec<f32>,
    z_text: Vec<f32>,
    captions: Vec<String>,
}

/// Measures a model on every usable sample with its first caption, `batch` samples at a time. `mean` (3, S, S) is the mean
/// image of the training data. `split` ends the names of the numbers. Returns the report and why records were left out.
///
/// Retrieval compares every image with every caption on the host: n^2 Z products.
///
/// # Errors
/// `Error::Data` when no sample is usable, else what the device reports.
pub fn evaluate(
    model: &M2ae,
    collator: &Collator,
    mean: Option<&[f32]>,
    batch: usize,
    split: &str,
) -> Result<(Report, Vec<String>)> {
    let (mut sums, mut skipped, mut samples) = (Sums::default(), Vec::new(), 0);
    for batch in batches(collator, batch, &mut skipped) {
        samples += batch.size;
        sums.add(model, &batch, mean)?;
    }
    if samples == 0 {
        return Err(Error::data(collator.dataset().path(), none_usable("image or caption", &skipped)));
    }
    let scores = |scores: Scores| (scores.images() > 0).then_some(scores);
    let mut report = Report {
        split: split.into(),
        image: scores(sums.image),
        mean_image: scores(sums.mean_image),
        from_text: scores(sums.from_text),
        token_accuracy: (sums.tokens.0 > 0).then(|| sums.tokens.1 as f64 / sums.tokens.0 as f64),
        ..Report::default()
    };
    if !sums.captions.is_empty() {
        let width = model.config.latent;
        report.image_to_text = Some(retrieve(&sums.z_image, &sums.z_text, width, &sums.captions, &RANKS)?);
        report.text_to_image = Some(retrieve(&sums.z_text, &sums.z_image, width, &sums.captions, &RANKS)?);
    }
    Ok((report, skipped))
}

impl Sums {
    fn add(&mut self, model: &M2ae, batch: &Batch, mean: Option<&[f32]>) -> Result<()> {
        let c = &model.config;
        let inputs = upload(model, batch)?;
        let both = model.reconstruct(&inputs, Shown::Both)?;
        let text = model.reconstruct(&inputs, Shown::Text)?;
        let (z_image, z_text) = model.latents(&inputs)?;
        let shape = [c.channels, c.image_size, c.image_size];
        let images =
            batch.image.chunks(c.pixels()).zip(both.image.chunks(c.pixels())).zip(text.image.chunks(c.pixels()));
        let tokens = batch.tokens.chunks(c.text_length).zip(both.tokens.chunks(c.text_length));
        let latents = z_image.chunks(c.latent).zip(z_text.chunks(c.latent));
        let present = batch.has_image.iter().zip(&batch.has_text);
        let samples = images.zip(tokens).zip(latents).zip(present).zip(&batch.captions);
        for ((((image, tokens), latents), (&has_image, &has_text)), caption) in samples {
            let ((input, both), from_text) = image;
            if has_image {
                self.image.add(input, both, shape)?;
                if let Some(mean) = mean {
                    self.mean_image.add(input, mean, shape)?;
                }
            }
            if has_text {
                let known = tokens.0.iter().zip(tokens.1).filter(|(wanted, _)| **wanted != 0);
                known.for_each(|(wanted, got)| {
                    self.tokens.0 += 1;
                    self.tokens.1 += u64::from(wanted == got);
                });
            }
            if has_image && has_text {
                self.from_text.add(input, from_text, shape)?;
                self.z_image.extend(latents.0);
                self.z_text.extend(latents.1);
                self.captions.push(caption.clone());
            }
        }
        Ok(())
    }
}
