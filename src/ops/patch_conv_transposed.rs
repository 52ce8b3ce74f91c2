//! Transposed patch convolution: kernel = stride = p, tokens (B, N, D) to an image (B, C, S, S).

use crate::error::Result;
use crate::kernels::{channel_sum, patch_conv, patch_conv_transposed as kernel, patch_conv_weight};
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// tokens (B, N, D) with N a square, weight (D, C, p, p), bias (C) to (B, C, S, S), S = p sqrt(N).
///
/// # Errors
/// `Error::Shape` when the shapes do not fit, else what a launch reports.
pub fn patch_conv_transposed(tape: &mut Tape, tokens: &Var, weight: &Var, bias: &Var) -> Result<Var> {
    let image = kernel::launch(tape.context(), tokens.value(), weight.value(), Some(bias.value()))?;
    let op = PatchConvTransposed { tokens: tokens.value().clone(), weight: weight.value().clone() };
    Ok(tape.push(op, &[tokens, weight, bias], image))
}

struct PatchConvTransposed {
    tokens: Tensor,
    weight: Tensor,
}

impl Op for PatchConvTransposed {
    fn name(&self) -> &'static str {
        "patch_conv_transposed"
    }

    fn backward(&self, grad: &Tensor, needs: &Needs) -> Result<Vec<Option<Tensor>>> {
        let (ctx, p) = (grad.context(), self.weight.shape().last());
        let tokens = needs[0].then(|| patch_conv::launch(ctx, grad, &self.weight, None));
        let weight = needs[1].then(|| {
            let dw = needs.place(1, ctx, self.weight.dims())?;
            patch_conv_weight::launch_into(ctx, &self.tokens, grad, p, &dw, None).map(|()| dw)
        });
        let bias = needs[2].then(|| {
            let (db, added) = needs.place_or_add(2, ctx, &[self.weight.dims()[1]])?;
            channel_sum::launch_into(ctx, grad, &db, added).map(|()| db)
        });
        Ok(vec![tokens.transpose()?, weight.transpose()?, bias.transpose()?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;

    #[test]
    fn gradients() {
        for (b, n, d, c, p) in [(2, 4, 5, 3, 2), (1, 4, 3, 1, 3), (1, 1, 2, 2, 4), (1, 9, 4, 1, 1)] {
            let inputs = [(&[b, n, d][..], 1), (&[d, c, p, p][..], 2), (&[c][..], 3)];
            check::gradients("patch_conv_transposed", &inputs, |tape, v| {
                patch_conv_transposed(tape, &v[0], &v[1], &v[2])
            });
        }
    }
}
