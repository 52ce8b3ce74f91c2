//! C = A B^T of two activations: products of latents, scores against a table.

use crate::device::Epilogue;
use crate::error::Result;
use crate::kernels::matmul::{self, Matmul};
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// a (.., K), b (N, K) to (.., N). `b` may be a parameter: its gradient is then f32.
///
/// # Errors
/// `Error::Shape` when the widths differ, else what a launch reports.
pub fn matmul_nt(tape: &mut Tape, a: &Var, b: &Var) -> Result<Var> {
    let (x, y) = (a.value(), b.value());
    let form = Matmul { trans_a: false, trans_b: true };
    let c = matmul::launch(tape.context(), &form, x, y, x.dtype(), Epilogue::None)?;
    let mut dims = x.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = y.shape().rows();
    }
    let op = MatmulNt { a: x.clone(), b: y.clone(), parameter: b.is_parameter() };
    Ok(tape.push(op, &[a, b], c.reshape(&dims)?))
}

struct MatmulNt {
    a: Tensor,
    b: Tensor,
    /// Whether b is one.
    parameter: bool,
}

impl Op for MatmulNt {
    fn name(&self) -> &'static str {
        "matmul"
    }

    /// dA = dC B, dB = dC^T A.
    fn backward(&self, grad: &Tensor, needs: &Needs) -> Result<Vec<Option<Tensor>>> {
        let ctx = grad.context();
        let plain = Matmul::default();
        let over_rows = Matmul { trans_a: true, trans_b: false };
        let da = needs[0].then(|| {
            let da = matmul::launch(ctx, &plain, grad, &self.b, self.a.dtype(), Epilogue::None)?;
            da.reshape(self.a.dims())
        });
        let db = needs[1].then(|| {
            let (db, added) = if self.parameter {
                needs.place_or_add(1, ctx, self.b.dims())?
            } else {
                (Tensor::empty(ctx, self.b.dims(), self.b.dtype())?, false)
            };
            let epilogue = if added { Epilogue::Added } else { Epilogue::None };
            matmul::launch_into(ctx, &over_rows, grad, &self.a, &db, epilogue).map(|()| db)
        });
        Ok(vec![da.transpose()?, db.transpose()?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;

    #[test]
    fn gradients() {
        check::gradients("matmul_nt", &[(&[3, 5], 1), (&[7, 5], 2)], |tape, v| matmul_nt(tape, &v[0], &v[1]));
        check::gradients("matmul_nt rank 3", &[(&[2, 3, 4], 1), (&[6, 4], 2)], |tape, v| matmul_nt(tape, &v[0], &v[1]));
    }
}
