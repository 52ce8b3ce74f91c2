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
        // This operation and its place on the tape have one view each. Whoever else has one may read it later.
        let gradient = if logits.owners() == 2 {
            logits.clone()
        } else {
            let copy = Tensor::empty(ctx, logits.dims(), logits.dtype())?;
            copy.copy_from(logits)?;
            copy
        };
        kernels::cross_entropy_backward::launch_over(ctx, grad, inverse, &gradient, targets, mask, lse)?;
        Ok(vec![Some(gradient)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;
    use crate::shape::DType;

    /// The gradient takes the place of logits that nobody else holds, and of no others.
    #[test]
    fn logits_that_are_held_stay() -> Result<()> {
        let ctx = crate::device::Context::cpu();
        let run = |hold: bool| -> Result<(bool, Vec<f32>)> {
            let mut tape = Tape::new(&ctx);
            let x = tape.leaf(crate::kernels::samples::normal(&ctx, &[2, 64], DType::F32, 1)?);
            let zeros = tape.constant(Tensor::zeros(&ctx, &[64], DType::F32)?);
            let logits = crate::ops::add_rows::add_rows(&mut tape, &x, &zeros)?;
            let targets = Tensor::from_u32(&ctx, &[2], &[3, 60])?;
            let mask = Tensor::from_f32(&ctx, &[2], &[1.0, 1.0], DType::F32)?;
            let loss = cross_entropy(&mut tape, &logits, &targets, &mask)?;
            let (place, held) = (logits.value().allocation_id(), hold.then(|| logits.value().clone()));
            drop(logits);
            let gradients = tape.backward(&loss, &crate::tape::one(&ctx)?)?;
            let gradient = gradients.get(&x).cloned();
            if let Some(held) = held {
                assert_eq!(held.to_f32()?, x.value().to_f32()?, "logits that are held");
            }
            let in_place = gradient.as_ref().is_some_and(|g| g.allocation_id() == place);
            Ok((in_place, gradient.map_or_else(|| Ok(Vec::new()), |g| g.to_f32())?))
        };
        let (alone, held) = (run(false)?, run(true)?);
        assert_eq!((alone.0, held.0), (true, false), "gradients in the place of their logits");
        assert!(alone.1.iter().any(|g| g.abs() > 0.1), "{alone:?}");
        assert_eq!(alone.1, held.1);
        Ok(())
    }

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
