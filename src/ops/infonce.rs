//! The symmetric contrastive loss (van den Oord et al., arXiv 1807.03748; Radford et al., arXiv 2103.00020).

use crate::error::Result;
use crate::kernels;
use crate::kernels::infonce::Saved;
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// (cross-entropy of the rows + that of the columns) / 2 of `logits (B, B)` with the diagonal as target, over the samples
/// that are valid in `mask (B)` F32 0/1, () F32; 0 when fewer than two are valid.
///
/// # Errors
/// As [`kernels::infonce::launch`].
pub fn infonce(tape: &mut Tape, logits: &Var, mask: &Tensor) -> Result<Var> {
    let (loss, saved) = kernels::infonce::launch(tape.context(), logits.value(), mask)?;
    Ok(tape.push(InfoNce { logits: logits.value().clone(), mask: mask.clone(), saved }, &[logits], loss))
}

struct InfoNce {
    logits: Tensor,
    mask: Tensor,
    saved: Saved,
}

impl Op for InfoNce {
    fn name(&self) -> &'static str {
        "infonce"
    }

    /// `dlogits = dloss * ((softmax of the row + softmax of the column) / 2 - identity) / number of valid samples`.
    fn backward(&self, grad: &Tensor, _needs: &Needs) -> Result<Vec<Option<Tensor>>> {
        let ctx = grad.context();
        let gradient = kernels::infonce_backward::launch(ctx, grad, &self.logits, &self.mask, &self.saved)?;
        Ok(vec![Some(gradient)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::Context;
    use crate::kernels::samples;
    use crate::ops::check;
    use crate::shape::DType;

    #[test]
    fn derivative() {
        for mask in [[1.0; 5], [1.0, 0.0, 1.0, 1.0, 0.0]] {
            check::gradients(&format!("infonce {mask:?}"), &[(&[5, 5], 1)], |tape, v| {
                let mask = Tensor::from_f32(tape.context(), &[5], &mask, DType::F32)?;
                infonce(tape, &v[0], &mask)
            });
        }
    }

    #[test]
    fn fewer_than_two_valid_samples_give_nothing() {
        let ctx = Context::cpu();
        for mask in [[0.0, 0.0, 0.0], [0.0, 1.0, 0.0]] {
            let mut tape = Tape::new(&ctx);
            let logits = tape.leaf(samples::normal(&ctx, &[3, 3], DType::F32, 1).unwrap());
            let valid = Tensor::from_f32(&ctx, &[3], &mask, DType::F32).unwrap();
            let loss = infonce(&mut tape, &logits, &valid).unwrap();
            assert_eq!(loss.value().to_f32().unwrap(), [0.0], "{mask:?}");
            let gradients = tape.backward(&loss, &crate::tape::one(&ctx).unwrap()).unwrap();
            assert_eq!(gradients.get(&logits).unwrap().to_f32().unwrap(), [0.0; 9], "{mask:?}");
        }
    }
}
