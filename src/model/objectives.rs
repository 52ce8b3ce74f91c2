//! The objectives beside plain reconstruction: masked prediction, alignment, and the losses of all.

use super::config::TextHead;
use super::inputs::Inputs;
use super::m2ae::{Losses, M2ae};
use crate::error::Result;
use crate::ops;
use crate::tape::{Tape, Var};

impl M2ae {
    /// Context, prediction and target (B, N, D): the predictor fills in masked tokens of the encoder, as the slow-moving
    /// target encoder sees them. `image` is 2x - 1. No gradient reaches the target.
    pub(super) fn predict(
        &self,
        tape: &mut Tape,
        inputs: &Inputs,
        image: &Var,
        patches: &Var,
    ) -> Result<(Var, Var, Var)> {
        let token = self.mask_token.var(tape);
        let hidden = ops::replace_rows::replace_rows(tape, patches, &token, &inputs.masked)?;
        let context = self.encoder.tokens(tape, &hidden)?;
        let pos = self.predictor_pos.var(tape);
        let q = ops::add_rows::add_rows(tape, &context, &pos)?;
        let (stack, norm) = &self.predictor;
        let mut q = stack.forward(tape, &q, None)?;
        if let Some(norm) = norm {
            q = norm.forward(tape, &q)?;
        }
        let prediction = self.predictor_head.forward(tape, &q)?;

        let mut quiet = Tape::inference(&self.context);
        let image = quiet.constant(image.value().clone());
        let patches = self.target.patches(&mut quiet, &image)?;
        let seen = self.target.tokens(&mut quiet, &patches)?;
        let target = ops::layernorm::normalise(&mut quiet, &seen)?;
        Ok((context, prediction, tape.constant(target.value().clone())))
    }

    /// Unit latents (B, Z) of each modality alone, the other one absent.
    pub(super) fn unit_latents(&self, tape: &mut Tape, inputs: &Inputs, v: &Var, w: &Var) -> Result<(Var, Var)> {
        let zeros = crate::tensor::Tensor::zeros(&self.context, &[inputs.batch], crate::shape::DType::F32)?;
        let z_image = self.fuse(tape, (v, &zeros), (w, &inputs.ones))?;
        let z_text = self.fuse(tape, (v, &inputs.ones), (w, &zeros))?;
        let z_image = ops::l2_normalise::l2_normalise(tape, &z_image)?;
        let z_text = ops::l2_normalise::l2_normalise(tape, &z_text)?;
        Ok((z_image, z_text))
    }

    /// Unit latents of each modality alone (B, Z) and their scaled products (B, B).
    pub(super) fn align(&self, tape: &mut Tape, inputs: &Inputs, v: &Var, w: &Var) -> Result<(Var, Var, Var)> {
        let (z_image, z_text) = self.unit_latents(tape, inputs, v, w)?;
        let cosine = ops::matmul::matmul_nt(tape, &z_image, &z_text)?;
        let scale = self.logit_scale.var(tape);
        let logits = ops::exp_scale::exp_scale(tape, &cosine, &scale)?;
        Ok((z_image, z_text, logits))
    }

    /// The losses: each one sum over the batch divided by one count.
    pub(super) fn losses(
        &self,
        tape: &mut Tape,
        inputs: &Inputs,
        (image_hat, text_hat): (&Var, &Var),
        embedded: &Var,
        (prediction, target): (&Var, &Var),
        logits: &Var,
    ) -> Result<Losses<Var>> {
        let recon_image = ops::masked_mse::masked_mse(tape, image_hat, &inputs.image, None, Some(&inputs.has_image))?;
        let recon_text = match self.config.text_head {
            TextHead::Embedding => {
                ops::masked_mse::masked_mse(tape, text_hat, embedded.value(), Some(&inputs.text_mask), None)?
            }
            TextHead::Tokens => {
                let table = self.table().var(tape);
                let scores = ops::matmul::matmul_nt(tape, text_hat, &table)?; // (B, L, V)
                ops::cross_entropy::cross_entropy(tape, &scores, &inputs.tokens, &inputs.text_mask)?
            }
        };
        let jepa = ops::masked_mse::masked_mse(
            tape,
            prediction,
            target.value(),
            Some(&inputs.masked),
            Some(&inputs.has_image),
        )?;
        let align = ops::infonce::infonce(tape, logits, &inputs.has_both)?;
        let l = &self.loss;
        let weights = [l.recon * l.recon_image, l.recon * l.recon_text, l.jepa, l.align];
        let total = ops::weighted_sum::weighted_sum(
            tape,
            &[&recon_image, &recon_text, &jepa, &align],
            &weights.map(|w| w as f32),
        )?;
        Ok(Losses { recon_image, recon_text, jepa, align, total })
    }
}
