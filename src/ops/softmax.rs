//! Softmax of rows.

use crate::error::Result;
use crate::kernels;
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// `y = exp(x) / sum(exp(x))` over the last axis of `x (.., D)`.
///
/// # Errors
/// As [`kernels::softmax::launch`].
pub fn softmax(tape: &mut Tape, x: &Var) -> Result<Var> {
    let y = kernels::softmax::launch(tape.context(), x.value())?;
    Ok(tape.push(Softmax { y: y.clone() }, &[x], y))
}

struct Softmax {
    y: Tensor,
}

impl Op for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    /// `dx = y * (dy - sum(dy * y))`.
    fn backward(&self, grad: &Tensor, _needs: &Needs) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(kernels::softmax_backward::launch(grad.context(), grad, &self.y)?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;

    #[test]
    fn derivative() {
        for [r, d] in [[1, 2], [3, 5], [2, 12]] {
            check::gradients(&format!("softmax {r}x{d}"), &[(&[r, d], 1)], |tape, v| softmax(tape, &v[0]));
        }
    }
}
