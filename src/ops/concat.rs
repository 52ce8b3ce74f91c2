//! Two matrices side by side.

use crate::error::Result;
use crate::kernels;
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// `(a, b)` row by row: `a (R, A)` and `b (R, C)` give `(R, A + C)`.
///
/// # Errors
/// As [`kernels::concat::launch`].
pub fn concat(tape: &mut Tape, a: &Var, b: &Var) -> Result<Var> {
    let y = kernels::concat::launch(tape.context(), a.value(), b.value())?;
    let op = Concat { a_width: a.value().shape().last(), b_width: b.value().shape().last() };
    Ok(tape.push(op, &[a, b], y))
}

struct Concat {
    a_width: usize,
    b_width: usize,
}

impl Op for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    /// Each part gets its own columns.
    fn backward(&self, grad: &Tensor, needs: &Needs) -> Result<Vec<Option<Tensor>>> {
        let &[a, b] = &**needs else { return Ok(Vec::new()) };
        let columns = |start, width| kernels::columns::launch(grad.context(), grad, start, width);
        Ok(vec![
            a.then(|| columns(0, self.a_width)).transpose()?,
            b.then(|| columns(self.a_width, self.b_width)).transpose()?,
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;

    #[test]
    fn derivative() {
        for (a, b) in [(5, 2), (4, 7), (3, 6)] {
            let inputs: [(&[usize], u64); 2] = [(&[3, a], 1), (&[3, b], 2)];
            check::gradients(&format!("concat {a} and {b}"), &inputs, |tape, v| concat(tape, &v[0], &v[1]));
        }
    }
}
