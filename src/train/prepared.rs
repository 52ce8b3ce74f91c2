//! Batches made ready for a step away from the thread that trains: encoding and staging the images of a large batch takes a
//! processor tens of milliseconds, as long as a fast card takes for the whole step.

use super::config::RunConfig;
use crate::data::Batch;
use crate::device::Context;
use crate::error::{Error, Result};
use crate::model::config::ModelConfig;
use crate::model::inputs::stage_images;
use crate::shape::DType;
use crate::tensor::Staged;

/// A batch for one step whose images lie where the device reads them, which is most of what a step needs from the host.
pub struct Prepared {
    /// Of each micro-batch, until it is handed over.
    pub(super) images: Vec<Option<Staged>>,
    pub(super) tokens: Vec<u32>,
    pub(super) has_image: Vec<bool>,
    pub(super) has_text: Vec<bool>,
}

impl Prepared {
    /// Whether it is of the sizes of a run.
    pub(super) fn check(&self, config: &RunConfig) -> Result<()> {
        let samples = config.train.batch * config.train.micro_batches;
        let expected = [config.train.micro_batches, samples, samples, samples * config.model.text_length];
        let got = [self.images.len(), self.has_image.len(), self.has_text.len(), self.tokens.len()];
        if got == expected {
            return Ok(());
        }
        let what =
            |[micro, samples, _, tokens]: [usize; 4]| format!("{samples} samples in {micro} parts, {tokens} tokens");
        Err(Error::shape("train step", what(expected), what(got)))
    }
}

/// Makes batches ready for a trainer, on any thread.
#[derive(Clone)]
pub struct Preparer {
    ctx: Context,
    model: ModelConfig,
    samples: usize,
    micro_batches: usize,
    precision: DType,
}

impl Preparer {
    pub(super) fn new(ctx: &Context, config: &RunConfig, precision: DType) -> Self {
        let (samples, micro_batches) = (config.train.batch, config.train.micro_batches);
        Self { ctx: ctx.clone(), model: config.model.clone(), samples, micro_batches, precision }
    }

    /// Checks a batch and stages its images.
    ///
    /// # Errors
    /// `Error::Shape` when the batch does not fit, `Error::NotFinite` for an image that holds NaN.
    pub fn prepare(&self, batch: &Batch) -> Result<Prepared> {
        let (samples, pixels, all) = (self.samples, self.model.pixels(), self.samples * self.micro_batches);
        let lengths = [batch.size, batch.has_image.len(), batch.has_text.len(), batch.image.len() / pixels];
        if lengths.iter().any(|n| *n != all) || batch.tokens.len() != all * self.model.text_length {
            return Err(Error::shape("train step", all, batch.size));
        }
        let parts = batch.image.chunks(samples * pixels).zip(batch.has_image.chunks(samples));
        let images =
            parts.map(|(image, has)| stage_images(&self.ctx, &self.model, image, has, self.precision).map(Some));
        Ok(Prepared {
            images: images.collect::<Result<_>>()?,
            tokens: batch.tokens.clone(),
            has_image: batch.has_image.clone(),
            has_text: batch.has_text.clone(),
        })
    }
}
