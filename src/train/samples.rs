//! Pictures of what a model makes of a few samples while it trains.

use image::RgbImage;

use super::evaluate::upload;
use super::grid::{Sample, draw};
use crate::data::{Batch, Collator, Tokenizer};
use crate::error::Result;
use crate::model::generate::Shown;
use crate::model::m2ae::M2ae;

/// At most `count` samples, spread evenly over the data set so that the same ones are drawn whenever a run is looked at.
///
/// # Errors
/// `Error::Data` when not one of them can be used.
pub fn spread(collator: &Collator, count: usize) -> Result<Batch> {
    let all = collator.dataset().len();
    let count = count.clamp(1, all.max(1));
    collator.batch(&(0..count).map(|i| i * all / count).collect::<Vec<_>>())
}

/// Draws each sample of `batch`: the image, its reconstruction from all that the sample has, its reconstruction from the
/// caption alone, the caption and what is read back of it.
///
/// # Errors
/// What the device reports.
pub fn picture(model: &M2ae, tokenizer: &Tokenizer, batch: &Batch) -> Result<RgbImage> {
    let c = &model.config;
    let inputs = upload(model, batch)?;
    let both = model.reconstruct(&inputs, Shown::Both)?;
    let text = model.reconstruct(&inputs, Shown::Text)?;
    let image = |all: &[f32], at: usize| all.chunks(c.pixels()).nth(at).map(<[f32]>::to_vec);
    let samples: Vec<Sample> = (batch.has_image.iter().zip(&batch.has_text).zip(&batch.captions).enumerate())
        .map(|(at, ((&has_image, &has_text), caption))| Sample {
            input: image(&batch.image, at).filter(|_| has_image),
            reconstruction: image(&both.image, at),
            from_text: image(&text.image, at).filter(|_| has_text),
            caption: caption.clone(),
            read_back: both.tokens.chunks(c.text_length).nth(at).map(|row| tokenizer.decode(row)).unwrap_or_default(),
        })
        .collect();
    draw(&samples, c.image_size)
}
