//! Mean squared error over the rows that count.

use crate::error::Result;
use crate::kernels;
use crate::kernels::masked_mse::Keep;
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// The mean of `(prediction - target)^2` over the elements of the kept rows, () F32; 0 when no row is kept. `prediction`
/// and `target` are of one shape with R rows along the last axis; `rows` (R values, as (B, N) or (R)) and `samples` (B)
/// are F32 0/1, and a row is kept when both say so. The target receives no gradient.
///
/// # Errors
/// As [`kernels::masked_mse::launch`].
pub fn masked_mse(
    tape: &mut Tape,
    prediction: &Var,
    target: &Tensor,
    rows: Option<&Tensor>,
    samples: Option<&Tensor>,
) -> Result<Var> {
    let keep = Keep { rows, samples };
    let (loss, inverse) = kernels::masked_mse::launch(tape.context(), prediction.value(), target, keep)?;
    let op = MaskedMse {
        prediction: prediction.value().clone(),
        target: target.clone(),
        rows: rows.cloned(),
        samples: samples.cloned(),
        inverse,
    };
    Ok(tape.push(op, &[prediction], loss))
}

struct MaskedMse {
    prediction: Tensor,
    target: Tensor,
    rows: Option<Tensor>,
    samples: Option<Tensor>,
    inverse: Tensor,
}

impl Op for MaskedMse {
    fn name(&self) -> &'static str {
        "masked_mse"
    }

    /// `dprediction = dloss * 2 * (prediction - target) / number of kept elements` in kept rows.
    fn backward(&self, grad: &Tensor, _needs: &Needs) -> Result<Vec<Option<Tensor>>> {
        let keep = Keep { rows: self.rows.as_ref(), samples: self.samples.as_ref() };
        let (ctx, inverse) = (grad.context(), &self.inverse);
        let gradient = kernels::masked_mse_backward::launch(ctx, grad, inverse, &self.prediction, &self.target, keep)?;
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
        for (by_row, by_sample) in [(false, false), (true, false), (false, true), (true, true)] {
            let name = format!("masked_mse row mask {by_row} sample mask {by_sample}");
            check::gradients(&name, &[(&[2, 3, 5], 1)], |tape, v| {
                let ctx = tape.context();
                let target = samples::normal(ctx, &[2, 3, 5], DType::F32, 9)?;
                let rows = Tensor::from_f32(ctx, &[2, 3], &[1.0, 0.0, 1.0, 0.0, 1.0, 1.0], DType::F32)?;
                let some = Tensor::from_f32(ctx, &[2], &[0.0, 1.0], DType::F32)?;
                masked_mse(tape, &v[0], &target, by_row.then_some(&rows), by_sample.then_some(&some))
            });
        }
    }

    #[test]
    fn a_mean_over_nothing_is_zero_and_what_is_dropped_may_be_infinite() {
        let ctx = Context::cpu();
        let mut tape = Tape::new(&ctx);
        let x = tape.leaf(Tensor::from_f32(&ctx, &[2, 1], &[f32::INFINITY, 3.0], DType::F32).unwrap());
        let target = Tensor::zeros(&ctx, &[2, 1], DType::F32).unwrap();
        let loss = |tape: &mut Tape, mask: [f32; 2]| {
            let mask = Tensor::from_f32(&ctx, &[2], &mask, DType::F32).unwrap();
            masked_mse(tape, &x, &target, None, Some(&mask)).unwrap()
        };
        let nothing = loss(&mut tape, [0.0, 0.0]);
        let second = loss(&mut tape, [0.0, 1.0]);
        assert_eq!(nothing.value().to_f32().unwrap(), [0.0]);
        assert_eq!(second.value().to_f32().unwrap(), [9.0]);
        let gradients = tape.backward(&second, &crate::tape::one(&ctx).unwrap()).unwrap();
        assert_eq!(gradients.get(&x).unwrap().to_f32().unwrap(), [0.0, 6.0]);
    }
}
