//! Multi-head self-attention: softmax(Q K^T / sqrt(d)) V of every head, from the rows that hold q, k and v side by side.

use crate::error::Result;
use crate::kernels::attention_backward_query::Inputs;
use crate::kernels::{
    attention, attention_backward_key, attention_backward_query, attention_statistics, merge_heads, merge_qkv,
    split_heads,
};
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// qkv (B, N, 3 H d) to (B, N, H d). `key_mask` (B, N) f32: a token with 0 is never attended to; a row without any key
/// gives 0.
///
/// # Errors
/// `Error::Shape` when the width is no multiple of 3 heads, `Error::Limit` for very wide heads.
pub fn attention(tape: &mut Tape, qkv: &Var, heads: usize, key_mask: Option<&Tensor>) -> Result<Var> {
    let ctx = tape.context();
    let part = |i| split_heads::launch(ctx, qkv.value(), heads, 3, i);
    let (q, k, v) = (part(0)?, part(1)?, part(2)?); // (B, H, N, d)
    let (o, lse) = attention::launch(ctx, &q, &k, &v, key_mask)?;
    let y = merge_heads::launch(ctx, &o)?;
    Ok(tape.push(Attention { q, k, v, o, lse, key_mask: key_mask.cloned() }, &[qkv], y))
}

struct Attention {
    q: Tensor,
    k: Tensor,
    v: Tensor,
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
        let ctx = grad.context();
        let grad = split_heads::launch(ctx, grad, self.q.dims()[1], 1, 0)?;
        let statistics = attention_statistics::launch(ctx, &self.o, &grad, &self.lse)?;
        let inputs = Inputs {
            q: &self.q,
            k: &self.k,
            v: &self.v,
            grad: &grad,
            mask: self.key_mask.as_ref(),
            statistics: &statistics,
        };
        let dq = attention_backward_query::launch(ctx, &inputs)?;
        let (dk, dv) = attention_backward_key::launch(ctx, &inputs)?;
        Ok(vec![Some(merge_qkv::launch(ctx, &dq, &dk, &dv)?)])
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
