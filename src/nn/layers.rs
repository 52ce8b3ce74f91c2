//! Layers: parameters with a forward pass. Shapes stand in the margin.

use super::{Param, ParamSet};
use crate::error::Result;
use crate::ops;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// `y = x W^T + b`, W (out, in).
#[derive(Clone)]
pub struct Linear {
    weight: Param,
    bias: Param,
}

impl Linear {
    /// The layer whose parameters are `prefix.weight` and `prefix.bias`.
    ///
    /// # Errors
    /// `Error::Config` when they are not in the set.
    pub fn load(set: &ParamSet, prefix: &str) -> Result<Self> {
        Ok(Self {
            weight: set.get(&format!("{prefix}.weight"))?.clone(),
            bias: set.get(&format!("{prefix}.bias"))?.clone(),
        })
    }

    fn vars(&self, tape: &mut Tape) -> [Var; 2] {
        [self.weight.var(tape), self.bias.var(tape)]
    }

    /// x (.., in) to (.., out).
    ///
    /// # Errors
    /// `Error::Shape`, or what a launch reports.
    pub fn forward(&self, tape: &mut Tape, x: &Var) -> Result<Var> {
        let [weight, bias] = self.vars(tape);
        ops::linear::linear(tape, x, &weight, Some(&bias))
    }

    /// gelu(x W^T + b), fused.
    ///
    /// # Errors
    /// As [`Linear::forward`].
    pub fn forward_gelu(&self, tape: &mut Tape, x: &Var) -> Result<Var> {
        let [weight, bias] = self.vars(tape);
        ops::linear::linear_gelu(tape, x, &weight, &bias)
    }

    /// residual + x W^T + b, fused.
    ///
    /// # Errors
    /// As [`Linear::forward`].
    pub fn forward_residual(&self, tape: &mut Tape, x: &Var, residual: &Var) -> Result<Var> {
        let [weight, bias] = self.vars(tape);
        ops::linear::linear_residual(tape, x, &weight, &bias, residual)
    }
}

/// Normalisation over the last axis with gain and offset.
#[derive(Clone)]
pub struct LayerNorm {
    weight: Param,
    bias: Param,
}

impl LayerNorm {
    /// The layer whose parameters are `prefix.weight` and `prefix.bias`.
    ///
    /// # Errors
    /// `Error::Config` when they are not in the set.
    pub fn load(set: &ParamSet, prefix: &str) -> Result<Self> {
        Ok(Self {
            weight: set.get(&format!("{prefix}.weight"))?.clone(),
            bias: set.get(&format!("{prefix}.bias"))?.clone(),
        })
    }

    /// x to the same shape.
    ///
    /// # Errors
    /// `Error::Shape`, or what a launch reports.
    pub fn forward(&self, tape: &mut Tape, x: &Var) -> Result<Var> {
        let (weight, bias) = (self.weight.var(tape), self.bias.var(tape));
        ops::layernorm::layernorm(tape, x, &weight, &bias)
    }
}

/// A pre-norm transformer block of width D.
#[derive(Clone)]
pub struct Block {
    norm1: LayerNorm,
    qkv: Linear,
    proj: Linear,
    norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    heads: usize,
}

impl Block {
    /// The block whose parameters begin with `prefix`.
    ///
    /// # Errors
    /// `Error::Config` when one is not in the set.
    pub fn load(set: &ParamSet, prefix: &str, heads: usize) -> Result<Self> {
        Ok(Self {
            norm1: LayerNorm::load(set, &format!("{prefix}.norm1"))?,
            qkv: Linear::load(set, &format!("{prefix}.attn.qkv"))?,
            proj: Linear::load(set, &format!("{prefix}.attn.proj"))?,
            norm2: LayerNorm::load(set, &format!("{prefix}.norm2"))?,
            fc1: Linear::load(set, &format!("{prefix}.mlp.fc1"))?,
            fc2: Linear::load(set, &format!("{prefix}.mlp.fc2"))?,
            heads,
        })
    }

    /// x (B, N, D); `key_mask` (B, N) f32, 0 where a token is never attended to.
    ///
    /// # Errors
    /// `Error::Shape`, or what a launch reports.
    pub fn forward(&self, tape: &mut Tape, x: &Var, key_mask: Option<&Tensor>) -> Result<Var> {
        let normed = self.norm1.forward(tape, x)?; //                        (B, N, D)
        let qkv = self.qkv.forward(tape, &normed)?; //                       (B, N, 3D)
        let mixed = ops::attention::attention(tape, &qkv, self.heads, key_mask)?; // (B, N, D)
        let x = self.proj.forward_residual(tape, &mixed, x)?;
        let normed = self.norm2.forward(tape, &x)?;
        let (fc1, fc2) = (self.fc1.vars(tape), self.fc2.vars(tape));
        ops::linear::mlp(tape, &normed, fc1.each_ref(), fc2.each_ref(), &x) // (B, N, 4D) between them
    }
}

/// Blocks one after another, then a norm; nothing at all at depth 0.
#[derive(Clone)]
pub struct Stack {
    blocks: Vec<Block>,
    norm: Option<LayerNorm>,
    checkpoint: bool,
}

impl Stack {
    /// The blocks `prefix.blocks.0 ..` and, where there is one block or more, `prefix.norm`.
    ///
    /// # Errors
    /// `Error::Config` when a parameter is not in the set.
    pub fn load(set: &ParamSet, prefix: &str, depth: usize, heads: usize, checkpoint: bool) -> Result<Self> {
        let block = |i| Block::load(set, &format!("{prefix}.blocks.{i}"), heads);
        let blocks = (0..depth).map(block).collect::<Result<Vec<_>>>()?;
        let norm = (depth > 0).then(|| LayerNorm::load(set, &format!("{prefix}.norm"))).transpose()?;
        Ok(Self { blocks, norm, checkpoint })
    }

    /// x (B, N, D) to the same shape. With checkpointing, only the input of each block is kept for the backward pass.
    ///
    /// # Errors
    /// `Error::Shape`, or what a launch reports.
    pub fn forward(&self, tape: &mut Tape, x: &Var, key_mask: Option<&Tensor>) -> Result<Var> {
        let mut x = x.clone();
        for block in &self.blocks {
            x = if self.checkpoint {
                let (block, mask) = (block.clone(), key_mask.cloned());
                ops::checkpoint::checkpoint(tape, &x, move |tape, x| block.forward(tape, x, mask.as_ref()))?
            } else {
                block.forward(tape, &x, key_mask)?
            };
        }
        match &self.norm {
            Some(norm) => norm.forward(tape, &x),
            None => Ok(x),
        }
    }
}
