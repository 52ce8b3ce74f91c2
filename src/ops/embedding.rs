//! Rows of a table by number.

use crate::error::Result;
use crate::kernels;
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// `y[b,l,:] = table[ids[b,l],:]`, zeros where the id is not in the table: the parameter `table (V, E)` and `ids (B, L)`
/// U32 give `(B, L, E)`.
///
/// # Errors
/// As [`kernels::embedding::launch`].
pub fn embedding(tape: &mut Tape, table: &Var, ids: &Tensor) -> Result<Var> {
    let y = kernels::embedding::launch(tape.context(), table.value(), ids)?;
    let entries = table.value().shape().rows();
    let dims = [entries, table.value().shape().last()];
    Ok(tape.push(Embedding { ids: ids.clone(), dims }, &[table], y))
}

struct Embedding {
    ids: Tensor,
    /// Of the table.
    dims: [usize; 2],
}

impl Op for Embedding {
    fn name(&self) -> &'static str {
        "embedding"
    }

    /// `dtable[v,:] = sum of dy[b,l,:] over the places with ids[b,l] = v`.
    fn backward(&self, grad: &Tensor, needs: &Needs) -> Result<Vec<Option<Tensor>>> {
        let dtable = needs.zero_or_held(0, grad.context(), &self.dims)?;
        kernels::embedding_backward::launch_into(grad.context(), grad, &self.ids, &dtable)?;
        Ok(vec![Some(dtable)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;

    #[test]
    fn derivative() {
        check::gradients("embedding 2x3 of 5x6", &[(&[5, 6], 1)], |tape, v| {
            // Entries once, twice, never, and one that is not in the table.
            let ids = Tensor::from_u32(tape.context(), &[2, 3], &[3, 0, 3, 4, 5, 0])?;
            embedding(tape, &v[0], &ids)
        });
    }
}
