//! A tensor times the exponential of a learned scalar.

use crate::error::Result;
use crate::kernels;
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// `y = exp(s) * x` with the parameter `s ()`; x of any shape.
///
/// # Errors
/// As [`kernels::exp_scale::launch`].
pub fn exp_scale(tape: &mut Tape, x: &Var, s: &Var) -> Result<Var> {
    let y = kernels::exp_scale::launch(tape.context(), s.value(), x.value())?;
    Ok(tape.push(ExpScale { s: s.value().clone(), y: y.clone() }, &[x, s], y))
}

struct ExpScale {
    s: Tensor,
    y: Tensor,
}

impl Op for ExpScale {
    fn name(&self) -> &'static str {
        "exp_scale"
    }

    /// `dx = exp(s) * dy`, `ds = sum of dy * y`.
    fn backward(&self, grad: &Tensor, needs: &Needs) -> Result<Vec<Option<Tensor>>> {
        let &[x, s] = &**needs else { return Ok(Vec::new()) };
        let ctx = grad.context();
        Ok(vec![
            x.then(|| kernels::exp_scale::launch(ctx, &self.s, grad)).transpose()?,
            s.then(|| kernels::dot::launch(ctx, grad, &self.y)).transpose()?,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;

    #[test]
    fn derivative() {
        check::gradients("exp_scale 3x5", &[(&[3, 5], 1), (&[], 2)], |tape, v| exp_scale(tape, &v[0], &v[1]));
    }
}
