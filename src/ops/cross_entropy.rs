//! Mean cross-entropy over the rows that count.

use crate::error::Result;
use crate::kernels;
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// The mean over the kept rows of `-log softmax(logits)[target]`, () F32; 0 when no row is kept. `logits (.., V)`; `targets`
/// U32 and `mask` F32 0/1 hold one value per row, such as (B, L). A target of V or more drops its row.
///
/// # Errors
/// As [`kernels::cross_entropy::launch`].
pub fn cross_entropy(tape: &mut Tape, logits: &Var, targets: &Tensor, mask: &Tensor) -> Result<Var> {
    let (loss, inverse, lse) = kernels::cross_entropy::launch(tape.context(), logits.value(), targets, mask)?;
    let op =
        CrossEntropy { logits: logits.value().clone(), targets: targets.clone(), mask: mask.clone(), inverse, lse };
    Ok(tape.push(op, &[logits], loss))
}

struct CrossEntropy {
    logits: Tensor,
    targets: Tensor,
    mask: Tensor,
    inverse: Tensor,
    lse: Tensor,
}

impl Op for CrossEntropy {
    fn name(&self) -> &'static str {
        "cross_entropy"
    }

    /// `dlogits = dloss * (softmax(logits) - onehot(target)) / number of kept rows` in kept rows.
    fn backward(&self, grad: &Tensor, _needs: &Needs) -> Result<Vec<Option<Tensor>>> {
        let Self { logits, targets, mask, inverse, lse } = self;
        let ctx = grad.context();
        let gradient = kernels::cross_entropy_backward::launch(ctx, grad, inverse, logits, targets, mask, lse)?;
        Ok(vec![Some(gradient)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;
    use crate::shape::DType;

    #[test]
    fn derivative() {
        check::gradients("cross_entropy 2x3 of 7", &[(&[2, 3, 7], 1)], |tape, v| {
            // The fifth target is no class.
            let targets = Tensor::from_u32(tape.context(), &[2, 3], &[0, 6, 3, 2, 7, 1])?;
            let mask = Tensor::from_f32(tape.context(), &[2, 3], &[1.0, 1.0, 0.0, 1.0, 1.0, 1.0], DType::F32)?;
            cross_entropy(tape, &v[0], &targets, &mask)
        });
    }
}
