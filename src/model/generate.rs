//! Running a trained model: latents of each modality, reconstructions, captions read back.
//!
//! B batch, C channels, S image side, L text length, V vocabulary, Z latent width.

use super::config::TextHead;
use super::inputs::{HostBatch, Inputs};
use super::m2ae::M2ae;
use crate::error::Result;
use crate::kernels;
use crate::ops;
use crate::shape::DType;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// Which modalities the encoder is shown. Of these it sees what the inputs have and show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Image and caption.
    Both,
    /// The image alone.
    Image,
    /// The caption alone.
    Text,
}

/// What the decoders make of a batch.
#[derive(Clone, Debug, PartialEq)]
pub struct Reconstruction {
    /// (B, C, S, S), clamped to [0, 1].
    pub image: Vec<f32>,
    /// (B, L) token ids; a caption ends at the first end token.
    pub tokens: Vec<u32>,
}

impl M2ae {
    /// Uploads a batch for inference, with no image token masked.
    ///
    /// # Errors
    /// As [`Inputs::upload`].
    pub fn inputs(&self, host: &HostBatch<'_>) -> Result<Inputs> {
        let dims = [host.has_image.len(), self.config.tokens()];
        let masked = Tensor::zeros(self.context(), &dims, DType::F32)?;
        Inputs::upload(self.context(), &self.config, host, masked, self.precision)
    }

    /// Unit latents of the images alone and of the captions alone, each (B, Z): their products are cosine similarities.
    /// A row whose sample lacks the modality means nothing.
    ///
    /// # Errors
    /// What a launch or the read-back reports; so for every method here.
    pub fn latents(&self, inputs: &Inputs) -> Result<(Vec<f32>, Vec<f32>)> {
        let mut tape = Tape::inference(self.context());
        let (v, w) = self.pooled(&mut tape, inputs)?;
        let (z_image, z_text) = self.unit_latents(&mut tape, inputs, &v, &w)?;
        Ok((z_image.value().to_f32()?, z_text.value().to_f32()?))
    }

    /// The latent (B, Z) of what is `shown`, left on the device.
    ///
    /// # Errors
    /// As [`M2ae::latents`].
    pub fn latent(&self, tape: &mut Tape, inputs: &Inputs, shown: Shown) -> Result<Var> {
        let (v, w) = self.pooled(tape, inputs)?;
        let no_image = if shown == Shown::Text { &inputs.ones } else { &inputs.no_image };
        let no_text = if shown == Shown::Image { &inputs.ones } else { &inputs.no_text };
        self.fuse(tape, (&v, no_image), (&w, no_text))
    }

    /// Images and captions decoded from the latent of what is `shown`.
    ///
    /// # Errors
    /// As [`M2ae::latents`].
    pub fn reconstruct(&self, inputs: &Inputs, shown: Shown) -> Result<Reconstruction> {
        let mut tape = Tape::inference(self.context());
        let z = self.latent(&mut tape, inputs, shown)?;
        let image = self.decode_image(&mut tape, &z)?;
        let text = self.decode_text(&mut tape, &z)?;
        let tokens = self.read_back(&mut tape, &text)?;
        let image = image.value().to_f32()?.into_iter().map(|value| value.clamp(0.0, 1.0)).collect();
        Ok(Reconstruction { image, tokens: tokens.to_u32()? })
    }

    /// The pooled modalities (B, D) and (B, T).
    fn pooled(&self, tape: &mut Tape, inputs: &Inputs) -> Result<(Var, Var)> {
        let patches = self.patch_tokens(tape, &inputs.image)?;
        let encoded = self.encoder.tokens(tape, &patches)?;
        let v = ops::masked_mean::masked_mean(tape, &encoded, None)?;
        let (_, text) = self.encode_text(tape, &inputs.tokens, &inputs.token_mask)?;
        let w = ops::masked_mean::masked_mean(tape, &text, Some(&inputs.token_mask))?;
        Ok((v, w))
    }

    /// Decoded embeddings (B, L, E) to the ids that they mean, (B L, 1): the nearest row of the table by cosine, row 0 left
    /// out, or the likeliest class where the head predicts tokens.
    fn read_back(&self, tape: &mut Tape, text: &Var) -> Result<Tensor> {
        let table = self.table().var(tape);
        let (text, table, first) = match self.config.text_head {
            TextHead::Tokens => (text.clone(), table, 0),
            TextHead::Embedding => {
                let text = ops::l2_normalise::l2_normalise(tape, text)?;
                (text, ops::l2_normalise::l2_normalise(tape, &table)?, 1)
            }
        };
        let scores = ops::matmul::matmul_nt(tape, &text, &table)?; // (B, L, V)
        let rows = scores.value().shape().rows();
        let scores = scores.value().reshape(&[rows, self.config.vocab])?;
        Ok(kernels::top_k::launch(self.context(), &scores, 1, first)?.0)
    }
}
