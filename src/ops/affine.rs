//! One straight line for every element.

use crate::error::Result;
use crate::kernels;
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// `scale x + shift` with fixed numbers, of the shape of `x`.
///
/// # Errors
/// As [`kernels::affine::launch`].
pub fn affine(tape: &mut Tape, x: &Var, scale: f32, shift: f32) -> Result<Var> {
    let y = kernels::affine::launch(tape.context(), x.value(), scale, shift)?;
    Ok(tape.push(Affine { scale }, &[x], y))
}

struct Affine {
    scale: f32,
}

impl Op for Affine {
    fn name(&self) -> &'static str {
        "affine"
    }

    /// `dx = scale dy`.
    fn backward(&self, grad: &Tensor, _: &Needs) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(kernels::affine::launch(grad.context(), grad, self.scale, 0.0)?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;

    #[test]
    fn derivative() {
        check::gradients("affine", &[(&[3, 5], 1)], |tape, v| affine(tape, &v[0], -1.5, 0.75));
    }
}
