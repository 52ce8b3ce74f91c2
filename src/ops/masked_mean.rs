//! Mean over the kept tokens of every sample.

use crate::error::Result;
use crate::kernels;
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// `y[b,:] = sum over n of mask[b,n] * x[b,n,:] / sum over n of mask[b,n]`, 0 where nothing is kept: `x (B, N, D)` and
/// `mask (B, N)` F32 0/1 give `(B, D)`. Without a mask all tokens are kept.
///
/// # Errors
/// As [`kernels::masked_mean::launch`].
pub fn masked_mean(tape: &mut Tape, x: &Var, mask: Option<&Tensor>) -> Result<Var> {
    let (y, inverse) = kernels::masked_mean::launch(tape.context(), x.value(), mask)?;
    let tokens = x.value().dims().get(1).copied().unwrap_or(1);
    Ok(tape.push(MaskedMean { tokens, mask: mask.cloned(), inverse }, &[x], y))
}

struct MaskedMean {
    tokens: usize,
    mask: Option<Tensor>,
    inverse: Tensor,
}

impl Op for MaskedMean {
    fn name(&self) -> &'static str {
        "masked_mean"
    }

    /// `dx[b,n,:] = dy[b,:] * mask[b,n] / sum over n of mask[b,n]`.
    fn backward(&self, grad: &Tensor, _needs: &Needs) -> Result<Vec<Option<Tensor>>> {
        let ctx = grad.context();
        let dx = kernels::masked_mean_backward::launch(ctx, grad, self.tokens, self.mask.as_ref(), &self.inverse)?;
        Ok(vec![Some(dx)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;
    use crate::shape::DType;

    #[test]
    fn derivative() {
        check::gradients("masked_mean without a mask", &[(&[2, 3, 5], 1)], |tape, v| masked_mean(tape, &v[0], None));
        // The last sample keeps nothing.
        let mask = [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0];
        check::gradients("masked_mean", &[(&[3, 3, 5], 1)], |tape, v| {
            let mask = Tensor::from_f32(tape.context(), &[3, 3], &mask, DType::F32)?;
            masked_mean(tape, &v[0], Some(&mask))
        });
    }
}
