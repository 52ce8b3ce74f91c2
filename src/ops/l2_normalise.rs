//! Rows divided by their length.

use crate::error::Result;
use crate::kernels;
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// `y = x / max(norm(x), 1e-6)` for every row of `x (.., D)`.
///
/// # Errors
/// As [`kernels::l2_normalise::launch`].
pub fn l2_normalise(tape: &mut Tape, x: &Var) -> Result<Var> {
    let (y, norm) = kernels::l2_normalise::launch(tape.context(), x.value())?;
    Ok(tape.push(L2Normalise { x: x.value().clone(), norm }, &[x], y))
}

struct L2Normalise {
    x: Tensor,
    norm: Tensor,
}

impl Op for L2Normalise {
    fn name(&self) -> &'static str {
        "l2_normalise"
    }

    /// With `u = x / norm`: `dx = (dy - u * sum(dy * u)) / norm`; `dy / 1e-6` where the norm is not above 1e-6.
    fn backward(&self, grad: &Tensor, _needs: &Needs) -> Result<Vec<Option<Tensor>>> {
        let dx = kernels::l2_normalise_backward::launch(grad.context(), grad, &self.x, &self.norm)?;
        Ok(vec![Some(dx)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;

    #[test]
    fn derivative() {
        for [r, d] in [[2, 3], [3, 8], [1, 13]] {
            check::gradients(&format!("l2_normalise {r}x{d}"), &[(&[r, d], 1)], |tape, v| l2_normalise(tape, &v[0]));
        }
    }
}
