//! Masked rows become one learned vector.

use crate::error::Result;
use crate::kernels;
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// `token` where `mask` is 1, the row of `x` where it is 0. `x (B, N, D)` with `mask (B, N)`, or `(B, D)` with `(B)`; the
/// parameter `token (D)`; the mask is F32 and has no gradient.
///
/// # Errors
/// As [`kernels::replace_rows::launch`].
pub fn replace_rows(tape: &mut Tape, x: &Var, token: &Var, mask: &Tensor) -> Result<Var> {
    let y = kernels::replace_rows::launch(tape.context(), x.value(), mask, token.value())?;
    Ok(tape.push(ReplaceRows { mask: mask.clone() }, &[x, token], y))
}

struct ReplaceRows {
    mask: Tensor,
}

impl Op for ReplaceRows {
    fn name(&self) -> &'static str {
        "replace_rows"
    }

    /// `dx[r,:] = (1 - mask(r)) dy[r,:]`, `dtoken = sum over r of mask(r) dy[r,:]`.
    fn backward(&self, grad: &Tensor, needs: &Needs) -> Result<Vec<Option<Tensor>>> {
        let &[x, token] = &**needs else { return Ok(Vec::new()) };
        let ctx = grad.context();
        let of_token = || -> Result<Tensor> {
            let (dtoken, added) = needs.place_or_add(1, ctx, &[grad.shape().last()])?;
            kernels::column_sum::launch_into(ctx, grad, 1, Some(&self.mask), &dtoken, added)?;
            Ok(dtoken)
        };
        Ok(vec![
            x.then(|| kernels::replace_rows_backward::launch(ctx, grad, &self.mask)).transpose()?,
            token.then(of_token).transpose()?,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::samples;
    use crate::ops::check;

    #[test]
    fn derivative() {
        for (rows, width) in [(&[7][..], 5), (&[2, 5], 3)] {
            let inputs: [(&[usize], u64); 2] = [(&[rows, &[width]].concat(), 1), (&[width], 2)];
            check::gradients(&format!("replace_rows {rows:?} x {width}"), &inputs, |tape, v| {
                let mask = samples::mask(tape.context(), rows, 0.5, 3)?;
                replace_rows(tape, &v[0], &v[1], &mask)
            });
        }
    }
}
