//! A table of rows added again and again: biases and position embeddings.

use crate::error::Result;
use crate::kernels;
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// `x` of any shape plus the rows of the parameter `v` over and over: a bias `(W)`, or positions `(N, W)` for every sample.
///
/// # Errors
/// As [`kernels::add_rows::launch`].
pub fn add_rows(tape: &mut Tape, x: &Var, v: &Var) -> Result<Var> {
    let y = kernels::add_rows::launch(tape.context(), x.value(), v.value())?;
    Ok(tape.push(AddRows { period: v.value().shape().rows() }, &[x, v], y))
}

struct AddRows {
    period: usize,
}

impl Op for AddRows {
    fn name(&self) -> &'static str {
        "add_rows"
    }

    /// `dx = dy`, `dv[n,:] = sum over r with r % period = n of dy[r,:]`.
    fn backward(&self, grad: &Tensor, needs: &Needs) -> Result<Vec<Option<Tensor>>> {
        let dv = match **needs {
            [_, true] => {
                let (dv, added) = needs.place_or_add(1, grad.context(), &[self.period, grad.shape().last()])?;
                kernels::column_sum::launch_into(grad.context(), grad, self.period, None, &dv, added)?;
                Some(dv)
            }
            _ => None,
        };
        Ok(vec![Some(grad.clone()), dv])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;

    #[test]
    fn derivative() {
        for (x, v) in [(&[3, 5][..], &[5][..]), (&[2, 3, 7], &[3, 7]), (&[6, 4], &[2, 4]), (&[3, 4], &[3, 4])] {
            check::gradients(&format!("add_rows {x:?} + {v:?}"), &[(x, 1), (v, 2)], |tape, vars| {
                add_rows(tape, &vars[0], &vars[1])
            });
        }
    }
}
