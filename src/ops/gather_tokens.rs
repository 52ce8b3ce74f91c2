//! Some tokens of every sample, in a given order.

use crate::error::Result;
use crate::kernels;
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// `y[b,k,:] = x[b, index[b,k], :]`: `x (B, N, D)` and `index (B, K)` (U32) give `(B, K, D)`. An index outside `0..N` gives
/// zeros.
///
/// # Errors
/// As [`kernels::gather_tokens::launch`].
pub fn gather_tokens(tape: &mut Tape, x: &Var, index: &Tensor) -> Result<Var> {
    let y = kernels::gather_tokens::launch(tape.context(), x.value(), index)?;
    let tokens = x.value().shape().rows() / index.shape().rows();
    Ok(tape.push(GatherTokens { index: index.clone(), tokens }, &[x], y))
}

struct GatherTokens {
    index: Tensor,
    tokens: usize,
}

impl Op for GatherTokens {
    fn name(&self) -> &'static str {
        "gather_tokens"
    }

    /// `dx[b,n,:] = sum over k with index[b,k] = n of dy[b,k,:]`.
    fn backward(&self, grad: &Tensor, _: &Needs) -> Result<Vec<Option<Tensor>>> {
        Ok(vec![Some(kernels::scatter_tokens::launch(grad.context(), grad, &self.index, self.tokens)?)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::samples;
    use crate::ops::check;

    #[test]
    fn derivative() {
        for [b, n, k, d] in [[2, 5, 3, 7], [3, 4, 6, 2]] {
            let name = format!("gather_tokens B {b} N {n} K {k} D {d}");
            check::gradients(&name, &[(&[b, n, d], 1)], |tape, v| {
                let index = samples::ids(tape.context(), &[b, k], n as u32 + 1, 2)?;
                gather_tokens(tape, &v[0], &index)
            });
        }
    }
}
