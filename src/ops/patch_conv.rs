//! Patch convolution: kernel = stride = p, an image (B, C, S, S) to tokens (B, N, D).

use crate::error::Result;
use crate::kernels::{column_sum, patch_conv as kernel, patch_conv_transposed, patch_conv_weight};
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// image (B, C, S, S), weight (D, C, p, p), bias (D) to (B, N, D).
///
/// # Errors
/// `Error::Shape` when the shapes do not fit, else what a launch reports.
pub fn patch_conv(tape: &mut Tape, image: &Var, weight: &Var, bias: &Var) -> Result<Var> {
    let tokens = kernel::launch(tape.context(), image.value(), weight.value(), Some(bias.value()))?;
    let op = PatchConv { image: image.value().clone(), weight: weight.value().clone() };
    Ok(tape.push(op, &[image, weight, bias], tokens))
}

struct PatchConv {
    image: Tensor,
    weight: Tensor,
}

impl Op for PatchConv {
    fn name(&self) -> &'static str {
        "patch_conv"
    }

    fn backward(&self, grad: &Tensor, needs: &Needs) -> Result<Vec<Option<Tensor>>> {
        let (ctx, p) = (grad.context(), self.weight.shape().last());
        let image = needs[0].then(|| patch_conv_transposed::launch(ctx, grad, &self.weight, None));
        let bias = needs[2].then(|| needs.place(2, ctx, &[grad.shape().last()])).transpose()?;
        let weight = needs[1].then(|| {
            let dw = needs.place(1, ctx, self.weight.dims())?;
            patch_conv_weight::launch_into(ctx, grad, &self.image, p, &dw, bias.as_ref()).map(|()| dw)
        });
        if let (Some(db), false) = (&bias, needs[1]) {
            column_sum::launch_into(ctx, grad, 1, None, db, false)?;
        }
        Ok(vec![image.transpose()?, weight.transpose()?, bias])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;

    #[test]
    fn gradients() {
        for (b, c, s, p, d) in [(2, 3, 4, 2, 5), (1, 1, 6, 3, 4), (1, 2, 8, 4, 3), (1, 1, 5, 5, 1)] {
            let inputs = [(&[b, c, s, s][..], 1), (&[d, c, p, p][..], 2), (&[d][..], 3)];
            check::gradients("patch_conv", &inputs, |tape, v| patch_conv(tape, &v[0], &v[1], &v[2]));
        }
    }
}
