//! A batch on the device: images, tokens, and the masks that say what is present, shown, padded and masked.

use std::borrow::Cow;

use super::config::ModelConfig;
use crate::device::Context;
use crate::error::{Error, Result};
use crate::shape::DType;
use crate::tensor::{Staged, Tensor};

/// A batch on the host. Slices of length B, or B rows.
#[derive(Clone, Copy)]
pub struct HostBatch<'a> {
    /// (B, C, S, S) in [0, 1]; anything where there is no image. For [`Inputs::write_staged`] nothing.
    pub image: &'a [f32],
    /// (B, L) token ids, 0 is padding.
    pub tokens: &'a [u32],
    /// Which samples have an image.
    pub has_image: &'a [bool],
    /// Which samples have a caption.
    pub has_text: &'a [bool],
    /// Which images the encoder sees.
    pub show_image: &'a [bool],
    /// Which captions the encoder sees.
    pub show_text: &'a [bool],
}

/// A batch on the device. Masks are f32, 0 or 1.
pub struct Inputs {
    /// B.
    pub batch: usize,
    /// (B, C, S, S).
    pub image: Tensor,
    /// (B, L), u32.
    pub tokens: Tensor,
    /// (B): has an image.
    pub has_image: Tensor,
    /// (B): has both modalities.
    pub has_both: Tensor,
    /// (B): the image is absent or hidden.
    pub no_image: Tensor,
    /// (B): the caption is absent, empty or hidden.
    pub no_text: Tensor,
    /// (B): ones.
    pub ones: Tensor,
    /// (B, L): tokens that are not padding.
    pub token_mask: Tensor,
    /// (B, L): tokens that are not padding, of samples with a caption.
    pub text_mask: Tensor,
    /// (B, N): image tokens that the context pass does not see.
    pub masked: Tensor,
}

impl Inputs {
    /// Room for a batch, with arbitrary contents: for a dry run, and for applications that fill the tensors on the device.
    ///
    /// # Errors
    /// `Error::Limit`, `Error::OutOfMemory`.
    pub fn empty(ctx: &Context, config: &ModelConfig, batch: usize, masked: Tensor, precision: DType) -> Result<Self> {
        let (s, length) = (config.image_size, config.text_length);
        let mask = |dims: &[usize]| Tensor::empty(ctx, dims, DType::F32);
        Ok(Self {
            batch,
            image: Tensor::empty(ctx, &[batch, config.channels, s, s], precision)?,
            tokens: Tensor::empty(ctx, &[batch, length], DType::U32)?,
            has_image: mask(&[batch])?,
            has_both: mask(&[batch])?,
            no_image: mask(&[batch])?,
            no_text: mask(&[batch])?,
            ones: mask(&[batch])?,
            token_mask: mask(&[batch, length])?,
            text_mask: mask(&[batch, length])?,
            masked,
        })
    }

    /// Uploads a batch; images in `precision`. `masked` (B, N) is made by the caller, on the device or on the host.
    ///
    /// # Errors
    /// `Error::Shape` when a length does not fit the model, `Error::NotFinite` for an image with NaN or infinity,
    /// `Error::Data` for a token beyond the vocabulary.
    pub fn upload(
        ctx: &Context,
        config: &ModelConfig,
        host: &HostBatch<'_>,
        masked: Tensor,
        precision: DType,
    ) -> Result<Self> {
        let inputs = Self::empty(ctx, config, host.has_image.len(), masked, precision)?;
        inputs.write(config, host)?;
        Ok(inputs)
    }

    /// Replaces everything but `masked` by another batch of the same size.
    ///
    /// # Errors
    /// As [`Inputs::upload`].
    pub fn write(&self, config: &ModelConfig, host: &HostBatch<'_>) -> Result<()> {
        let image = stage_images(self.image.context(), config, host.image, host.has_image, self.image.dtype())?;
        self.write_staged(config, &HostBatch { image: &[], ..*host }, image)
    }

    /// The same with images that [`stage_images`] has made ready, which is most of the work.
    ///
    /// # Errors
    /// As [`Inputs::upload`].
    pub fn write_staged(&self, config: &ModelConfig, host: &HostBatch<'_>, image: Staged) -> Result<()> {
        lengths(config, host, self.batch)?;
        let tokens = present(host.tokens, config.text_length, host.has_text);
        if let Some(token) = tokens.iter().find(|&&t| t as usize >= config.vocab) {
            let (vocab, advice) = (config.vocab, "use the run's own tokenizer");
            return Err(Error::data("tokens", format!("token {token} is not below model.vocab {vocab}; {advice}")));
        }
        let length = config.text_length;
        // A caption of padding only counts as none.
        let text: Vec<bool> = (tokens.chunks(length).zip(host.has_text))
            .map(|(row, &has)| has && row.iter().any(|&token| token != 0))
            .collect();
        let per_sample = |to: &Tensor, f: &dyn Fn(usize) -> bool| {
            to.write_f32(&(0..self.batch).map(|b| f32::from(u8::from(f(b)))).collect::<Vec<f32>>())
        };
        let per_token = |to: &Tensor, f: &dyn Fn(usize, u32) -> bool| {
            let value = |(i, &t): (usize, &u32)| f32::from(u8::from(f(i / length, t)));
            to.write_f32(&tokens.iter().enumerate().map(value).collect::<Vec<f32>>())
        };
        self.image.write(image)?;
        self.tokens.write_u32(&tokens)?;
        per_sample(&self.has_image, &|b| host.has_image[b])?;
        per_sample(&self.has_both, &|b| host.has_image[b] && text[b])?;
        per_sample(&self.no_image, &|b| !(host.has_image[b] && host.show_image[b]))?;
        per_sample(&self.no_text, &|b| !(text[b] && host.show_text[b]))?;
        per_sample(&self.ones, &|_| true)?;
        per_token(&self.token_mask, &|_, token| token != 0)?;
        per_token(&self.text_mask, &|b, token| token != 0 && text[b])
    }
}

/// Images of a batch (B, C, S, S) on their way to the device, in `precision`; on any thread.
///
/// # Errors
/// `Error::Shape` when the length does not fit the model, `Error::NotFinite` for an image with NaN or infinity.
pub fn stage_images(
    ctx: &Context,
    config: &ModelConfig,
    image: &[f32],
    has_image: &[bool],
    precision: DType,
) -> Result<Staged> {
    let (batch, size) = (has_image.len(), config.image_size);
    if image.len() != batch * config.pixels() {
        return Err(Error::shape("batch", format!("image of {} values", batch * config.pixels()), image.len()));
    }
    let image = present(image, config.pixels(), has_image);
    if let Some(at) = image.iter().position(|v| !v.is_finite()) {
        let what = format!("image of sample {} of the batch", at / config.pixels());
        return Err(Error::NotFinite { what, step: 0, advice: "mend or remove the image" });
    }
    Staged::f32(ctx, &[batch, config.channels, size, size], &image, precision)
}

/// Rows with zeros where a sample has none: what a reader leaves there must not matter.
fn present<'a, T: Copy + Default>(rows: &'a [T], width: usize, has: &[bool]) -> Cow<'a, [T]> {
    let mut rows = Cow::Borrowed(rows);
    if has.contains(&false) {
        for (row, _) in rows.to_mut().chunks_mut(width).zip(has).filter(|(_, has)| !**has) {
            row.fill(T::default());
        }
    }
    rows
}

fn lengths(config: &ModelConfig, host: &HostBatch<'_>, batch: usize) -> Result<()> {
    let lengths = [
        ("has_image", host.has_image.len(), batch),
        ("tokens", host.tokens.len(), batch * config.text_length),
        ("has_text", host.has_text.len(), batch),
        ("show_image", host.show_image.len(), batch),
        ("show_text", host.show_text.len(), batch),
    ];
    match lengths.into_iter().find(|(_, got, expected)| got != expected || batch == 0) {
        Some((what, got, expected)) => Err(Error::shape("batch", format!("{what} of {expected} values"), got)),
        None => Ok(()),
    }
}
