//! GELU in its tanh form.

use crate::error::Result;
use crate::kernels;
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// `gelu(x)`, of the shape of `x`.
///
/// # Errors
/// As [`kernels::gelu::launch`].
pub fn gelu(tape: &mut Tape, x: &Var) -> Result<Var> {
    let y = kernels::gelu::launch(tape.context(), x.value())?;
    Ok(tape.push(Gelu { x: x.value().clone() }, &[x], y))
}

struct Gelu {
    x: Tensor,
}

impl Op for Gelu {
    fn name(&self) -> &'static str {
        "gelu"
    }

    /// `dx = dy gelu'(x)`.
    fn backward(&self, grad: &Tensor, _: &Needs) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(kernels::gelu_backward::launch(grad.context(), &self.x, grad)?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;

    #[test]
    fn derivative() {
        check::gradients("gelu", &[(&[5, 7], 1)], |tape, v| gelu(tape, &v[0]));
    }
}
