//! Multi-head self-attention: softmax(Q K^T / sqrt(d)) V of every head, from the rows that hold q, k and v side by side.

use crate::error::Result;
use crate::kernels::attention_backward_query::Inputs;
use crate::kernels::attention_plan::Sizes;
use crate::kernels::{attention, attention_backward_key, pad_heads};
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// qkv (B, N, 3 H d) to (B, N, H d). `key_mask` (B, N) f32: a token with 0 is never attended to; a row without any key
/// gives 0.
///
/// The kernels read and write the heads of tokens where the linear layers have them; only heads whose width is no multiple of 4 are
/// copied, into whole cells.
///
/// # Errors
/// `Error::Shape` when the width is no multiple of 3 heads, `Error::Limit` for very wide heads.
pub fn attention(tape: &mut Tape, qkv: &Var, heads: usize, key_mask: Option<&Tensor>) -> Result<Var> {
    let ctx = tape.context();
    let sizes = Sizes::of(qkv.value(), heads)?;
    let padded = in_cells(&sizes, qkv.value())?;
    let (o, lse) = attention::launch(ctx, &sizes, &padded, key_mask)?;
    let y = cut_back(&sizes, &o)?;
    Ok(tape.push(Attention { sizes, qkv: padded, o, lse, key_mask: key_mask.cloned() }, &[qkv], y))
}

fn in_cells(sizes: &Sizes, x: &Tensor) -> Result<Tensor> {
    if sizes.width == sizes.padded() {
        Ok(x.clone())
    } else {
        pad_heads::launch(x.context(), x, sizes.width, sizes.padded())
    }
}

fn cut_back(sizes: &Sizes, x: &Tensor) -> Result<Tensor> {
    if sizes.width == sizes.padded() {
        Ok(x.clone())
    } else {
        pad_heads::launch(x.context(), x, sizes.padded(), sizes.width)
    }
}

struct Attention {
    sizes: Sizes,
    /// (B, N, 3 H d), in whole cells, as all that follows.
    qkv: Tensor,
    o: Tensor,
    /// Log-sum-exp of each row of scores.
    lse: Tensor,
    key_mask: Option<Tensor>,
}

impl Op for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn backward(&self, grad: &Tensor, _needs: &Needs) -> Result<Vec<Option<Tensor>>> {
        let (ctx, Self { sizes, qkv, o, lse, key_mask }) = (grad.context(), self);
        let grad = in_cells(sizes, grad)?;
        let dqkv = Tensor::empty(ctx, qkv.dims(), qkv.dtype())?;
        let inputs = Inputs { qkv, o, grad: &grad, mask: key_mask.as_ref(), lse };
        attention_backward_key::launch_all(ctx, sizes, &inputs, &dqkv)?;
        Ok(vec![Some(cut_back(sizes, &dqkv)?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;
    use crate::shape::DType;

    #[test]
    fn gradients() {
        check::gradients("attention", &[(&[2, 5, 3 * 6], 1)], |tape, v| attention(tape, &v[0], 2, None));
        check::gradients("attention of one token", &[(&[1, 1, 12], 1)], |tape, v| attention(tape, &v[0], 1, None));
        check::gradients("masked attention", &[(&[3, 4, 3 * 6], 1)], |tape, v| {
            // Padding in the middle, and a row without any key.
            let mask = [1., 0., 1., 0., 1., 1., 1., 1., 0., 0., 0., 0.];
            let mask = Tensor::from_f32(tape.context(), &[3, 4], &mask, DType::F32)?;
            attention(tape, &v[0], 2, Some(&mask))
        });
    }
}
