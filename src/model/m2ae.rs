//! The multimodal masked autoencoder: two encoders, one bottleneck, two decoders, a masked predictor and an alignment.
//! Formulas and names are those of `docs/m2ae.md`; each method is one paragraph of it.
//!
//! B batch, N image tokens, D image width, L text length, E text embedding width, T text width, Z latent width, p patch side.

use super::config::{Expansion, LossConfig, ModelConfig};
use super::inputs::Inputs;
use super::params::specs;
use crate::device::Context;
use crate::error::Result;
use crate::nn::{LayerNorm, Linear, Param, ParamSet, Stack};
use crate::ops;
use crate::shape::DType;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// How to build a model.
#[derive(Clone, Debug)]
pub struct Build {
    /// Storage of activations and working weights.
    pub precision: DType,
    /// Key of the initial values.
    pub seed: u64,
    /// Name prefixes of parameters that are not trained.
    pub freeze: Vec<String>,
    /// Run each block again in the backward pass instead of remembering it.
    pub checkpoint_blocks: bool,
}

impl Default for Build {
    fn default() -> Self {
        Self { precision: DType::F32, seed: 0, freeze: Vec::new(), checkpoint_blocks: false }
    }
}

/// `V`: image to tokens. The target encoder has the same form without a mask token.
pub(super) struct ImageEncoder {
    patch_weight: Param,
    patch_bias: Param,
    pos: Param,
    stack: Stack,
}

impl ImageEncoder {
    fn load(set: &ParamSet, prefix: &str, c: &ModelConfig, checkpoint: bool) -> Result<Self> {
        Ok(Self {
            patch_weight: set.get(&format!("{prefix}.patch.weight"))?.clone(),
            patch_bias: set.get(&format!("{prefix}.patch.bias"))?.clone(),
            pos: set.get(&format!("{prefix}.pos"))?.clone(),
            stack: Stack::load(set, prefix, c.depth, c.heads, checkpoint)?,
        })
    }

    /// image (B, C, S, S), already 2x - 1, to (B, N, D).
    pub(super) fn patches(&self, tape: &mut Tape, image: &Var) -> Result<Var> {
        let (weight, bias) = (self.patch_weight.var(tape), self.patch_bias.var(tape));
        ops::patch_conv::patch_conv(tape, image, &weight, &bias)
    }

    /// (B, N, D) to (B, N, D): positions, blocks, norm.
    pub(super) fn tokens(&self, tape: &mut Tape, patches: &Var) -> Result<Var> {
        let pos = self.pos.var(tape);
        let t = ops::add_rows::add_rows(tape, patches, &pos)?;
        self.stack.forward(tape, &t, None)
    }
}

struct TextEncoder {
    embed: Param,
    proj: Linear,
    pos: Option<Param>,
    stack: Stack,
}

/// gelu(expand(z)) spread over positions, blocks, norm. Both modalities decode so.
pub(super) struct Decoder {
    expand: Linear,
    spread: Spread,
    stack: Stack,
}

enum Spread {
    Spatial { scale: Param, shift: Param },
    Dense { weight: Param, bias: Param },
}

impl Decoder {
    fn load(
        set: &ParamSet,
        prefix: &str,
        (depth, heads): (usize, usize),
        dense: bool,
        checkpoint: bool,
    ) -> Result<Self> {
        let get = |name: &str| Ok::<_, crate::Error>(set.get(&format!("{prefix}.{name}"))?.clone());
        let spread = if dense {
            Spread::Dense { weight: get("dense.weight")?, bias: get("dense.bias")? }
        } else {
            Spread::Spatial { scale: get("spatial.scale")?, shift: get("spatial.shift")? }
        };
        Ok(Self {
            expand: Linear::load(set, &format!("{prefix}.expand"))?,
            spread,
            stack: Stack::load(set, prefix, depth, heads, checkpoint)?,
        })
    }

    /// z (B, Z) to (B, N, D).
    fn forward(&self, tape: &mut Tape, z: &Var) -> Result<Var> {
        let g = self.expand.forward_gelu(tape, z)?; // (B, D)
        let t = match &self.spread {
            Spread::Spatial { scale, shift } => {
                let (scale, shift) = (scale.var(tape), shift.var(tape));
                ops::scale_shift::scale_shift(tape, &g, &scale, &shift)?
            }
            Spread::Dense { weight, bias } => {
                let (weight, bias) = (weight.var(tape), bias.var(tape));
                ops::dense::dense(tape, &g, &weight, &bias)?
            }
        };
        self.stack.forward(tape, &t, None)
    }
}

/// The model on a device: parameters and the layers over them.
pub struct M2ae {
    /// Shape of the model.
    pub config: ModelConfig,
    /// Weights of the losses.
    pub loss: LossConfig,
    /// Storage of activations and working weights.
    pub precision: DType,
    /// All parameters.
    pub params: ParamSet,
    pub(super) context: Context,
    pub(super) encoder: ImageEncoder,
    pub(super) target: ImageEncoder,
    pub(super) mask_token: Param,
    image_absent: Param,
    text_absent: Param,
    text: TextEncoder,
    bottleneck: Linear,
    image_decoder: Decoder,
    unpatch: (Param, Param),
    text_decoder: Decoder,
    text_proj: Linear,
    pub(super) predictor_pos: Param,
    pub(super) predictor: (Stack, Option<LayerNorm>),
    pub(super) predictor_head: Linear,
    pub(super) logit_scale: Param,
}

impl M2ae {
    /// A model with initial values drawn from `build.seed`, the same on every device.
    ///
    /// # Errors
    /// `Error::Config` when the configuration makes no model, `Error::Limit`, `Error::OutOfMemory`.
    pub fn new(ctx: &Context, config: &ModelConfig, loss: &LossConfig, build: &Build) -> Result<Self> {
        config.validate()?;
        loss.validate()?;
        let (c, again) = (config, build.checkpoint_blocks);
        let params = ParamSet::build(ctx, &specs(config, &build.freeze), build.precision, build.seed)?;
        let set = &params;
        let get = |name: &str| Ok::<_, crate::Error>(set.get(name)?.clone());
        let text = TextEncoder {
            embed: get("text.embed")?,
            proj: Linear::load(set, "text.encoder.proj")?,
            pos: if c.text_depth > 0 { Some(get("text.encoder.pos")?) } else { None },
            stack: Stack::load(set, "text.encoder", c.text_depth, c.text_heads, again)?,
        };
        let dense = c.expansion == Expansion::Dense;
        let stack = Stack::load(set, "image.predictor", c.predictor_depth, c.heads, again)?;
        // The stack brings its norm only with blocks; the predictor has one at every depth.
        let norm = if c.predictor_depth == 0 { Some(LayerNorm::load(set, "image.predictor.norm")?) } else { None };
        Ok(Self {
            encoder: ImageEncoder::load(set, "image.encoder", c, again)?,
            target: ImageEncoder::load(set, "image.target", c, again)?,
            mask_token: get("image.encoder.mask_token")?,
            image_absent: get("image.absent")?,
            text_absent: get("text.absent")?,
            text,
            bottleneck: Linear::load(set, "bottleneck")?,
            image_decoder: Decoder::load(set, "image.decoder", (c.decoder_depth, c.heads), dense, again)?,
            unpatch: (get("image.decoder.unpatch.weight")?, get("image.decoder.unpatch.bias")?),
            text_decoder: Decoder::load(set, "text.decoder", (c.text_depth, c.text_heads), false, again)?,
            text_proj: Linear::load(set, "text.decoder.proj")?,
            predictor_pos: get("image.predictor.pos")?,
            predictor: (stack, norm),
            predictor_head: Linear::load(set, "image.predictor.head")?,
            logit_scale: get("align.logit_scale")?,
            config: config.clone(),
            loss: loss.clone(),
            precision: build.precision,
            context: ctx.clone(),
            params,
        })
    }

    /// The device.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// image (B, C, S, S) in [0, 1] to patch tokens (B, N, D), before mask token and positions.
    ///
    /// # Errors
    /// What a launch reports; so for every method here.
    pub fn patch_tokens(&self, tape: &mut Tape, image: &Tensor) -> Result<Var> {
        let image = self.centred(tape, image)?;
        self.encoder.patches(tape, &image)
    }

    /// 2x - 1: what both encoders of images take.
    fn centred(&self, tape: &mut Tape, image: &Tensor) -> Result<Var> {
        Ok(tape.constant(crate::kernels::affine::launch(&self.context, image, 2.0, -1.0)?))
    }

    /// tokens (B, L) to embeddings (B, L, E) and encoded (B, L, T).
    pub fn encode_text(&self, tape: &mut Tape, tokens: &Tensor, token_mask: &Tensor) -> Result<(Var, Var)> {
        let table = self.text.embed.var(tape);
        let e = ops::embedding::embedding(tape, &table, tokens)?; // (B, L, E)
        let mut t = self.text.proj.forward(tape, &e)?; //            (B, L, T)
        if let Some(pos) = &self.text.pos {
            let pos = pos.var(tape);
            t = ops::add_rows::add_rows(tape, &t, &pos)?;
        }
        Ok((e, self.text.stack.forward(tape, &t, Some(token_mask))?))
    }

    /// v (B, D) and w (B, T) to z (B, Z); the absent vectors stand in where `no_image`, `no_text` (B) are 1.
    pub fn fuse(&self, tape: &mut Tape, (v, no_image): (&Var, &Tensor), (w, no_text): (&Var, &Tensor)) -> Result<Var> {
        let (a, b) = (self.image_absent.var(tape), self.text_absent.var(tape));
        let v = ops::replace_rows::replace_rows(tape, v, &a, no_image)?;
        let w = ops::replace_rows::replace_rows(tape, w, &b, no_text)?;
        let both = ops::concat::concat(tape, &v, &w)?; // (B, D + T)
        self.bottleneck.forward(tape, &both)
    }

    /// z (B, Z) to an image (B, C, S, S), not clamped.
    pub fn decode_image(&self, tape: &mut Tape, z: &Var) -> Result<Var> {
        let t = self.image_decoder.forward(tape, z)?; // (B, N, D)
        let (weight, bias) = (self.unpatch.0.var(tape), self.unpatch.1.var(tape));
        ops::patch_conv_transposed::patch_conv_transposed(tape, &t, &weight, &bias)
    }

    /// z (B, Z) to text embeddings (B, L, E).
    pub fn decode_text(&self, tape: &mut Tape, z: &Var) -> Result<Var> {
        let t = self.text_decoder.forward(tape, z)?; // (B, L, T)
        self.text_proj.forward(tape, &t)
    }

    /// The embedding table (V, E).
    #[must_use]
    pub const fn table(&self) -> &Param {
        &self.text.embed
    }
}

/// Everything one forward pass makes: names as in the golden files.
pub struct Outputs {
    /// (B, N, D)
    pub patch_tokens: Var,
    /// (B, N, D)
    pub encoded: Var,
    /// (B, L, T)
    pub text_encoded: Var,
    /// (B, D)
    pub v: Var,
    /// (B, T)
    pub w: Var,
    /// (B, Z)
    pub z: Var,
    /// (B, C, S, S)
    pub image_hat: Var,
    /// (B, L, E)
    pub text_hat: Var,
    /// (B, N, D)
    pub context: Var,
    /// (B, N, D)
    pub prediction: Var,
    /// (B, N, D)
    pub target: Var,
    /// (B, Z)
    pub z_image: Var,
    /// (B, Z)
    pub z_text: Var,
    /// (B, B)
    pub logits: Var,
    /// The four losses and their weighted sum, scalars.
    pub losses: Losses<Var>,
}

/// The losses of a batch: unweighted terms and the weighted sum.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Losses<T> {
    /// Mean squared error of the images.
    pub recon_image: T,
    /// Mean squared error of the text embeddings, or cross-entropy of the tokens.
    pub recon_text: T,
    /// Mean squared error of the predicted masked tokens.
    pub jepa: T,
    /// Contrastive loss between the two modalities.
    pub align: T,
    /// Weighted sum.
    pub total: T,
}

impl<T> Losses<T> {
    /// Names and values, in the order of the golden files.
    pub const fn named(&self) -> [(&'static str, &T); 5] {
        [
            ("recon_image", &self.recon_image),
            ("recon_text", &self.recon_text),
            ("jepa", &self.jepa),
            ("align", &self.align),
            ("total", &self.total),
        ]
    }
}

impl M2ae {
    /// The whole forward pass with all losses.
    ///
    /// # Errors
    /// `Error::Shape`, or what a launch reports.
    pub fn forward(&self, tape: &mut Tape, inputs: &Inputs) -> Result<Outputs> {
        let image = self.centred(tape, &inputs.image)?;
        let patch_tokens = self.encoder.patches(tape, &image)?;
        let encoded = self.encoder.tokens(tape, &patch_tokens)?;
        let v = ops::masked_mean::masked_mean(tape, &encoded, None)?; // (B, D)
        let (embedded, text_encoded) = self.encode_text(tape, &inputs.tokens, &inputs.token_mask)?;
        let w = ops::masked_mean::masked_mean(tape, &text_encoded, Some(&inputs.token_mask))?; // (B, T)
        let z = self.fuse(tape, (&v, &inputs.no_image), (&w, &inputs.no_text))?;
        let image_hat = self.decode_image(tape, &z)?;
        let text_hat = self.decode_text(tape, &z)?;
        let (context, prediction, target) = self.predict(tape, inputs, &image, &patch_tokens)?;
        let (z_image, z_text, logits) = self.align(tape, inputs, &v, &w)?;
        let losses = self.losses(tape, inputs, (&image_hat, &text_hat), &embedded, (&prediction, &target), &logits)?;
        Ok(Outputs {
            patch_tokens,
            encoded,
            text_encoded,
            v,
            w,
            z,
            image_hat,
            text_hat,
            context,
            prediction,
            target,
            z_image,
            z_text,
            logits,
            losses,
        })
    }
}
