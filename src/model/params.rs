//! The parameters of the model: names, shapes, initial values, decay, as section 4 of `docs/m2ae.md` lists them.

use super::config::{Expansion, ModelConfig, TextHead};
use crate::nn::{Init, ParamSpec};

/// Spread of initial weights.
const SPREAD: Init = Init::Normal { mean: 0.0, std: 0.02 };

struct List {
    specs: Vec<ParamSpec>,
}

impl List {
    fn push(&mut self, name: &str, dims: &[usize], init: Init, decay: bool) {
        self.specs.push(ParamSpec { name: name.into(), dims: dims.into(), init, decay, trainable: true });
    }

    /// A vector or table without decay.
    fn plain(&mut self, name: &str, dims: &[usize], init: Init) {
        self.push(name, dims, init, false);
    }

    fn linear(&mut self, prefix: &str, out: usize, inputs: usize) {
        self.push(&format!("{prefix}.weight"), &[out, inputs], SPREAD, true);
        self.plain(&format!("{prefix}.bias"), &[out], Init::Constant(0.0));
    }

    fn norm(&mut self, prefix: &str, width: usize) {
        self.plain(&format!("{prefix}.weight"), &[width], Init::Constant(1.0));
        self.plain(&format!("{prefix}.bias"), &[width], Init::Constant(0.0));
    }

    fn blocks(&mut self, prefix: &str, depth: usize, width: usize) {
        for i in 0..depth {
            let block = format!("{prefix}.blocks.{i}");
            self.norm(&format!("{block}.norm1"), width);
            self.linear(&format!("{block}.attn.qkv"), 3 * width, width);
            self.linear(&format!("{block}.attn.proj"), width, width);
            self.norm(&format!("{block}.norm2"), width);
            self.linear(&format!("{block}.mlp.fc1"), 4 * width, width);
            self.linear(&format!("{block}.mlp.fc2"), width, 4 * width);
        }
    }
}

fn image_encoder(list: &mut List, c: &ModelConfig) {
    let (n, d) = (c.tokens(), c.width);
    list.push("image.encoder.patch.weight", &[d, c.channels, c.patch, c.patch], SPREAD, true);
    list.plain("image.encoder.patch.bias", &[d], Init::Constant(0.0));
    list.plain("image.encoder.pos", &[n, d], SPREAD);
    list.blocks("image.encoder", c.depth, d);
    if c.depth > 0 {
        list.norm("image.encoder.norm", d);
    }
}

fn text_encoder(list: &mut List, c: &ModelConfig) {
    let decayed = c.text_head == TextHead::Tokens;
    list.push("text.embed", &[c.vocab, c.text_embed], Init::NormalRowZero, decayed);
    list.linear("text.encoder.proj", c.text_width, c.text_embed);
    if c.text_depth > 0 {
        list.plain("text.encoder.pos", &[c.text_length, c.text_width], SPREAD);
        list.blocks("text.encoder", c.text_depth, c.text_width);
        list.norm("text.encoder.norm", c.text_width);
    }
}

fn image_decoder(list: &mut List, c: &ModelConfig) {
    let (n, d) = (c.tokens(), c.width);
    list.linear("image.decoder.expand", d, c.latent);
    match c.expansion {
        Expansion::Spatial => spatial(list, "image.decoder", n, d),
        Expansion::Dense => {
            list.push("image.decoder.dense.weight", &[n, d, d], SPREAD, true);
            list.plain("image.decoder.dense.bias", &[n, d], Init::Constant(0.0));
        }
    }
    list.blocks("image.decoder", c.decoder_depth, d);
    if c.decoder_depth > 0 {
        list.norm("image.decoder.norm", d);
    }
    list.push("image.decoder.unpatch.weight", &[d, c.channels, c.patch, c.patch], SPREAD, true);
    list.plain("image.decoder.unpatch.bias", &[c.channels], Init::Constant(0.5));
}

fn spatial(list: &mut List, prefix: &str, tokens: usize, width: usize) {
    let near_one = Init::Normal { mean: 1.0, std: 0.02 };
    list.plain(&format!("{prefix}.spatial.scale"), &[tokens, width], near_one);
    list.plain(&format!("{prefix}.spatial.shift"), &[tokens, width], SPREAD);
}

fn text_decoder(list: &mut List, c: &ModelConfig) {
    list.linear("text.decoder.expand", c.text_width, c.latent);
    spatial(list, "text.decoder", c.text_length, c.text_width);
    list.blocks("text.decoder", c.text_depth, c.text_width);
    if c.text_depth > 0 {
        list.norm("text.decoder.norm", c.text_width);
    }
    list.linear("text.decoder.proj", c.text_embed, c.text_width);
}

fn predictor(list: &mut List, c: &ModelConfig) {
    list.plain("image.predictor.pos", &[c.tokens(), c.width], SPREAD);
    list.blocks("image.predictor", c.predictor_depth, c.width);
    list.norm("image.predictor.norm", c.width);
    list.linear("image.predictor.head", c.width, c.width);
}

/// Pairs (target, source) of the moving average: every encoder parameter but the mask token.
#[must_use]
pub fn target_pairs(config: &ModelConfig) -> Vec<(String, String)> {
    let mut list = List { specs: Vec::new() };
    image_encoder(&mut list, config);
    let pair = |spec: ParamSpec| (spec.name.replacen("image.encoder.", "image.target.", 1), spec.name);
    list.specs.into_iter().map(pair).collect()
}

/// Every parameter of a model. Frozen are `image.target`, `text.embed` unless `text_head` is "tokens", and all whose names
/// begin with one of `freeze`.
#[must_use]
pub fn specs(config: &ModelConfig, freeze: &[String]) -> Vec<ParamSpec> {
    let c = config;
    let mut list = List { specs: Vec::new() };
    image_encoder(&mut list, c);
    let encoder = list.specs.clone();
    list.plain("image.encoder.mask_token", &[c.width], SPREAD);
    list.plain("image.absent", &[c.width], SPREAD);
    text_encoder(&mut list, c);
    list.plain("text.absent", &[c.text_width], SPREAD);
    list.linear("bottleneck", c.latent, c.pooled());
    image_decoder(&mut list, c);
    text_decoder(&mut list, c);
    predictor(&mut list, c);
    list.plain("align.logit_scale", &[], Init::Constant((1.0f32 / 0.07).ln()));
    for source in encoder {
        let name = source.name.replacen("image.encoder.", "image.target.", 1);
        list.plain(&name, &source.dims, Init::CopyOf(source.name.clone()));
    }
    for spec in &mut list.specs {
        let frozen_table = spec.name == "text.embed" && c.text_head == TextHead::Embedding;
        let asked = freeze.iter().any(|prefix| spec.name.starts_with(prefix.as_str()));
        spec.trainable = !(frozen_table || asked || spec.name.starts_with("image.target."));
    }
    list.specs
}
