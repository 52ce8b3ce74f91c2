//! The shape of a model and the weights of its losses: fields, presets, checks.

use crate::error::{Error, Result, nearest};
use crate::model::fields::{Choice, Section, Slot};

/// How the image decoder turns one latent vector into N tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Expansion {
    /// One vector, scaled and shifted per position: 2 N D parameters.
    #[default]
    Spatial,
    /// A linear layer D -> N D: N D (D + 1) parameters.
    Dense,
}

impl Choice for Expansion {
    fn names(&self) -> &'static [&'static str] {
        &["spatial", "dense"]
    }
    fn name(&self) -> &'static str {
        match self {
            Self::Spatial => "spatial",
            Self::Dense => "dense",
        }
    }
    fn choose(&mut self, name: &str) -> bool {
        *self = match name {
            "spatial" => Self::Spatial,
            "dense" => Self::Dense,
            _ => return false,
        };
        true
    }
}

/// What the text decoder is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TextHead {
    /// The tokens' embeddings (mean squared error); the table stays as drawn.
    #[default]
    Embedding,
    /// The tokens themselves (cross-entropy over the vocabulary); the table is trained.
    Tokens,
}

impl Choice for TextHead {
    fn names(&self) -> &'static [&'static str] {
        &["embedding", "tokens"]
    }
    fn name(&self) -> &'static str {
        match self {
            Self::Embedding => "embedding",
            Self::Tokens => "tokens",
        }
    }
    fn choose(&mut self, name: &str) -> bool {
        *self = match name {
            "embedding" => Self::Embedding,
            "tokens" => Self::Tokens,
            _ => return false,
        };
        true
    }
}

/// Everything that fixes the shapes of the parameters. The letters are those of the model's description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelConfig {
    /// Image side S, in pixels.
    pub image_size: usize,
    /// Image channels, 3 for RGB.
    pub channels: usize,
    /// Patch side p, in pixels; divides S.
    pub patch: usize,
    /// Width D of the image tokens.
    pub width: usize,
    /// Blocks in the image encoder.
    pub depth: usize,
    /// Blocks in the image decoder.
    pub decoder_depth: usize,
    /// Attention heads H of the width-D blocks; divides D.
    pub heads: usize,
    /// Text length L, in tokens, `<start>` and `<end>` included.
    pub text_length: usize,
    /// Width E of the token embeddings.
    pub text_embed: usize,
    /// Width T of the text tokens inside the encoder and the decoder.
    pub text_width: usize,
    /// Blocks in the text encoder, and in the text decoder.
    pub text_depth: usize,
    /// Attention heads H_t of the width-T blocks; divides T.
    pub text_heads: usize,
    /// Width Z of the latent vector that both modalities share.
    pub latent: usize,
    /// Blocks in the JEPA predictor.
    pub predictor_depth: usize,
    /// How the image decoder makes tokens of the latent.
    pub expansion: Expansion,
    /// What the text decoder predicts.
    pub text_head: TextHead,
    /// Vocabulary V, padding and other special tokens included. A tokenizer of this size is trained with the model
    /// when none is given.
    pub vocab: usize,
}

/// The names that [`preset`] knows.
pub const PRESETS: [&str; 4] = ["m2ae", "m2ae-small", "m2ae-tiny", "m2ae-vit"];

/// The published shape: 224 x 224 images in 196 tokens of 768, 77 text tokens, no attention outside the predictor.
#[must_use]
pub fn m2ae() -> ModelConfig {
    ModelConfig {
        image_size: 224,
        channels: 3,
        patch: 16,
        width: 768,
        depth: 0,
        decoder_depth: 0,
        heads: 12,
        text_length: 77,
        text_embed: 512,
        text_width: 256,
        text_depth: 0,
        text_heads: 4,
        latent: 512,
        predictor_depth: 2,
        expansion: Expansion::Spatial,
        text_head: TextHead::Embedding,
        vocab: 8192,
    }
}

/// 96 x 96 images, two blocks each way: trains on a laptop.
#[must_use]
pub fn m2ae_small() -> ModelConfig {
    ModelConfig {
        image_size: 96,
        patch: 8,
        width: 256,
        depth: 2,
        decoder_depth: 2,
        heads: 4,
        text_length: 32,
        text_embed: 128,
        text_width: 128,
        text_depth: 1,
        latent: 256,
        predictor_depth: 1,
        vocab: 2048,
        ..m2ae()
    }
}

/// 32 x 32 images: tests, and demonstrations on slow adapters.
#[must_use]
pub fn m2ae_tiny() -> ModelConfig {
    ModelConfig {
        image_size: 32,
        patch: 8,
        width: 48,
        depth: 1,
        decoder_depth: 1,
        heads: 4,
        text_length: 12,
        text_embed: 32,
        text_width: 32,
        text_depth: 1,
        latent: 64,
        predictor_depth: 1,
        vocab: 512,
        ..m2ae()
    }
}

/// A transformer of the usual size over the shapes of [`m2ae()`].
#[must_use]
pub fn m2ae_vit() -> ModelConfig {
    ModelConfig { depth: 12, text_depth: 6, decoder_depth: 4, ..m2ae() }
}

/// The preset called `name`.
///
/// # Errors
/// [`Error::Config`] with the nearest name when there is none.
pub fn preset(name: &str) -> Result<ModelConfig> {
    match name {
        "m2ae" => Ok(m2ae()),
        "m2ae-small" => Ok(m2ae_small()),
        "m2ae-tiny" => Ok(m2ae_tiny()),
        "m2ae-vit" => Ok(m2ae_vit()),
        _ => Err(Error::Config {
            field: "preset".into(),
            reason: format!("no preset `{name}`, there are {}", PRESETS.join(", ")),
            nearest: nearest(name, PRESETS),
        }),
    }
}

impl Section for ModelConfig {
    const NAME: &'static str = "model";

    fn slots(&mut self) -> Vec<(&'static str, Slot<'_>)> {
        vec![
            ("image_size", Slot::Count(&mut self.image_size)),
            ("channels", Slot::Count(&mut self.channels)),
            ("patch", Slot::Count(&mut self.patch)),
            ("width", Slot::Count(&mut self.width)),
            ("depth", Slot::Count(&mut self.depth)),
            ("decoder_depth", Slot::Count(&mut self.decoder_depth)),
            ("heads", Slot::Count(&mut self.heads)),
            ("text_length", Slot::Count(&mut self.text_length)),
            ("text_embed", Slot::Count(&mut self.text_embed)),
            ("text_width", Slot::Count(&mut self.text_width)),
            ("text_depth", Slot::Count(&mut self.text_depth)),
            ("text_heads", Slot::Count(&mut self.text_heads)),
            ("latent", Slot::Count(&mut self.latent)),
            ("predictor_depth", Slot::Count(&mut self.predictor_depth)),
            ("expansion", Slot::Choice(&mut self.expansion)),
            ("text_head", Slot::Choice(&mut self.text_head)),
            ("vocab", Slot::Count(&mut self.vocab)),
        ]
    }
}

/// No size may exceed this, so that products of two sizes fit everywhere; real models stay far below.
const LARGEST: usize = 1 << 24;
/// No stack of blocks is deeper.
const DEEPEST: usize = 1024;

impl ModelConfig {
    /// Side of the token grid, S / p.
    #[must_use]
    pub fn grid(&self) -> usize {
        self.image_size.checked_div(self.patch).unwrap_or(0)
    }

    /// Image tokens N = (S / p)^2.
    #[must_use]
    pub fn tokens(&self) -> usize {
        self.grid().saturating_mul(self.grid())
    }

    /// Values in one image, channels * S * S.
    #[must_use]
    pub fn pixels(&self) -> usize {
        self.channels.saturating_mul(self.image_size).saturating_mul(self.image_size)
    }

    /// Values in one patch, channels * p * p: the inner size of the patch convolution.
    #[must_use]
    pub fn patch_pixels(&self) -> usize {
        self.channels.saturating_mul(self.patch).saturating_mul(self.patch)
    }

    /// Width D + T of the two pooled vectors side by side.
    #[must_use]
    pub fn pooled(&self) -> usize {
        self.width.saturating_add(self.text_width)
    }

    /// Masked image tokens per sample: floor(N * ratio + 0.5).
    #[must_use]
    pub fn masked(&self, ratio: f64) -> usize {
        let rounded = (self.tokens() as f64 * ratio + 0.5).floor();
        (rounded.max(0.0) as usize).min(self.tokens())
    }

    /// Whether blocks of width D exist anywhere.
    #[must_use]
    pub fn has_image_blocks(&self) -> bool {
        self.depth > 0 || self.decoder_depth > 0 || self.predictor_depth > 0
    }

    /// Checks that the sizes make a model.
    ///
    /// # Errors
    /// [`Error::Config`] naming the first field that does not fit.
    pub fn validate(&self) -> Result<()> {
        let sizes = [
            ("image_size", self.image_size),
            ("channels", self.channels),
            ("patch", self.patch),
            ("width", self.width),
            ("text_length", self.text_length),
            ("text_embed", self.text_embed),
            ("text_width", self.text_width),
            ("latent", self.latent),
            ("vocab", self.vocab),
        ];
        for (name, size) in sizes {
            check(name, (1..=LARGEST).contains(&size), || format!("{size} is not between 1 and {LARGEST}"))?;
        }
        let depths = [
            ("depth", self.depth),
            ("decoder_depth", self.decoder_depth),
            ("text_depth", self.text_depth),
            ("predictor_depth", self.predictor_depth),
        ];
        for (name, depth) in depths {
            check(name, depth <= DEEPEST, || format!("{depth} is more than {DEEPEST} blocks"))?;
        }
        check("image_size", self.image_size <= 1 << 14, || format!("{} is more than {}", self.image_size, 1 << 14))?;
        check("patch", self.image_size.is_multiple_of(self.patch), || {
            format!("{} does not divide image_size {}", self.patch, self.image_size)
        })?;
        check("heads", !self.has_image_blocks() || divides(self.heads, self.width), || {
            format!("{} does not divide width {}", self.heads, self.width)
        })?;
        check("text_heads", self.text_depth == 0 || divides(self.text_heads, self.text_width), || {
            format!("{} does not divide text_width {}", self.text_heads, self.text_width)
        })?;
        check("vocab", self.vocab >= 4, || {
            format!("{} is too small: padding, start, end and unknown take 4", self.vocab)
        })
    }
}

fn divides(part: usize, whole: usize) -> bool {
    part > 0 && whole.is_multiple_of(part)
}

fn check(field: &str, holds: bool, reason: impl FnOnce() -> String) -> Result<()> {
    if holds { Ok(()) } else { Err(Error::config(format!("model.{field}"), reason())) }
}

/// The weights of the losses: `recon (recon_image I + recon_text X) + jepa J + align A`.
#[derive(Debug, Clone, PartialEq)]
pub struct LossConfig {
    /// Weight of both reconstruction losses together.
    pub recon: f64,
    /// Weight of the JEPA prediction loss.
    pub jepa: f64,
    /// Weight of the image-text alignment loss (InfoNCE).
    pub align: f64,
    /// Weight of the image's reconstruction inside `recon`.
    pub recon_image: f64,
    /// Weight of the text's reconstruction inside `recon`.
    pub recon_text: f64,
    /// Share of the image tokens hidden from the JEPA context pass.
    pub mask_ratio: f64,
}

impl Default for LossConfig {
    fn default() -> Self {
        Self { recon: 1.0, jepa: 1.0, align: 0.1, recon_image: 1.0, recon_text: 0.1, mask_ratio: 0.5 }
    }
}

impl Section for LossConfig {
    const NAME: &'static str = "loss";

    fn slots(&mut self) -> Vec<(&'static str, Slot<'_>)> {
        vec![
            ("recon", Slot::Real(&mut self.recon)),
            ("jepa", Slot::Real(&mut self.jepa)),
            ("align", Slot::Real(&mut self.align)),
            ("recon_image", Slot::Real(&mut self.recon_image)),
            ("recon_text", Slot::Real(&mut self.recon_text)),
            ("mask_ratio", Slot::Real(&mut self.mask_ratio)),
        ]
    }
}

impl LossConfig {
    /// Checks that the weights are usable.
    ///
    /// # Errors
    /// [`Error::Config`] naming a negative or non-finite weight, or a mask ratio outside [0, 1].
    pub fn validate(&self) -> Result<()> {
        let weights = [
            ("recon", self.recon),
            ("jepa", self.jepa),
            ("align", self.align),
            ("recon_image", self.recon_image),
            ("recon_text", self.recon_text),
        ];
        for (name, weight) in weights {
            if !(weight.is_finite() && weight >= 0.0) {
                return Err(Error::config(format!("loss.{name}"), format!("{weight} is not a weight (0 or more)")));
            }
        }
        if !(0.0..=1.0).contains(&self.mask_ratio) {
            let reason = format!("{} is not between 0 and 1", self.mask_ratio);
            return Err(Error::config("loss.mask_ratio", reason));
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "config_tests.rs"]
mod tests;
