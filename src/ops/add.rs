//! Sum of two values of one shape.

use crate::error::Result;
use crate::kernels;
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// `a + b`, of one shape and element type.
///
/// # Errors
/// As [`kernels::add::launch`].
pub fn add(tape: &mut Tape, a: &Var, b: &Var) -> Result<Var> {
    let c = kernels::add::launch(tape.context(), a.value(), b.value())?;
    Ok(tape.push(Add, &[a, b], c))
}

struct Add;

impl Op for Add {
    fn name(&self) -> &'static str {
        "add"
    }

    /// `da = dc`, `db = dc`.
    fn backward(&self, grad: &Tensor, needs: &Needs) -> Result<Vec<Option<Tensor>>> {
        Ok(needs.iter().map(|need| need.then(|| grad.clone())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;

    #[test]
    fn derivative() {
        check::gradients("add", &[(&[3, 5], 1), (&[3, 5], 2)], |tape, v| add(tape, &v[0], &v[1]));
        check::gradients("add of a value to itself", &[(&[3, 5], 1)], |tape, v| add(tape, &v[0], &v[0]));
    }
}
