//! Dropout whose mask is drawn again, not stored.

use crate::error::Result;
use crate::kernels;
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// `x` with each element dropped with probability `rate` and the others divided by `1 - rate`. `random` is the U32 tensor
/// `[seed_lo, seed_hi, step, ...]`; it must hold the same step until the backward pass has run.
///
/// # Errors
/// As [`kernels::dropout::launch`].
pub fn dropout(tape: &mut Tape, x: &Var, random: &Tensor, stream: u64, rate: f32) -> Result<Var> {
    let y = kernels::dropout::launch(tape.context(), x.value(), random, stream, rate)?;
    Ok(tape.push(Dropout { random: random.clone(), stream, rate }, &[x], y))
}

struct Dropout {
    random: Tensor,
    stream: u64,
    rate: f32,
}

impl Op for Dropout {
    fn name(&self) -> &'static str {
        "dropout"
    }

    /// The same elements dropped from the gradient, the others divided alike.
    fn backward(&self, grad: &Tensor, _: &Needs) -> Result<Vec<Option<Tensor>>> {
        let dx = kernels::dropout::launch(grad.context(), grad, &self.random, self.stream, self.rate)?;
        Ok(vec![Some(dx)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;

    #[test]
    fn derivative() {
        for rate in [0.0, 0.4, 0.9] {
            check::gradients(&format!("dropout {rate}"), &[(&[5, 7], 1)], |tape, v| {
                let random = Tensor::from_u32(tape.context(), &[4], &[1, 2, 3, 0])?;
                dropout(tape, &v[0], &random, 9, rate)
            });
        }
    }
}
