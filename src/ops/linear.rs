//! y = x W^T + b, with GELU or a residual fused into the product. W (N, K) as PyTorch stores it.

use crate::device::Epilogue;
use crate::error::{Error, Result};
use crate::kernels::matmul::{self, Matmul};
use crate::kernels::{column_sum, gelu_backward};
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

const PLAIN: Matmul = Matmul { trans_a: false, trans_b: false };
/// A (M, K) times W^T, W (N, K).
const BY_ROWS: Matmul = Matmul { trans_a: false, trans_b: true };
/// A^T B, A (K, M): gradients of weights, summed over the rows of both.
const OVER_ROWS: Matmul = Matmul { trans_a: true, trans_b: false };

/// x (.., K) to (.., N).
///
/// # Errors
/// `Error::Shape` when the widths do not fit, else what a launch reports.
pub fn linear(tape: &mut Tape, x: &Var, weight: &Var, bias: Option<&Var>) -> Result<Var> {
    let epilogue = bias.map_or(Epilogue::None, |b| Epilogue::Bias(b.value()));
    let y = product(x.value(), weight.value(), epilogue)?;
    let op = Linear::new(x, weight, None);
    Ok(match bias {
        Some(bias) => tape.push(op, &[x, weight, bias], y),
        None => tape.push(op, &[x, weight], y),
    })
}

/// gelu(x W^T + b).
///
/// # Errors
/// As [`linear`].
pub fn linear_gelu(tape: &mut Tape, x: &Var, weight: &Var, bias: &Var) -> Result<Var> {
    let dims = output_dims(x.value(), weight.value());
    let pre = Tensor::empty(tape.context(), &dims, x.value().dtype())?;
    let epilogue = Epilogue::BiasGelu { bias: bias.value(), pre_activation: &pre };
    let y = product(x.value(), weight.value(), epilogue)?;
    Ok(tape.push(Linear::new(x, weight, Some(pre)), &[x, weight, bias], y))
}

/// residual + x W^T + b.
///
/// # Errors
/// As [`linear`]; `Error::Shape` when the residual has another shape than the result.
pub fn linear_residual(tape: &mut Tape, x: &Var, weight: &Var, bias: &Var, residual: &Var) -> Result<Var> {
    let dims = output_dims(x.value(), weight.value());
    if residual.value().dims() != dims {
        return Err(Error::shape("linear_residual", format!("{dims:?}"), residual.value().shape()));
    }
    let epilogue = Epilogue::BiasResidual { bias: bias.value(), residual: residual.value() };
    let y = product(x.value(), weight.value(), epilogue)?;
    Ok(tape.push(Linear::new(x, weight, None), &[x, weight, bias, residual], y))
}

fn output_dims(x: &Tensor, weight: &Tensor) -> Vec<usize> {
    let mut dims = x.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = weight.shape().rows();
    }
    dims
}

fn product(x: &Tensor, weight: &Tensor, epilogue: Epilogue<'_>) -> Result<Tensor> {
    let y = matmul::launch(x.context(), &BY_ROWS, x, weight, x.dtype(), epilogue)?;
    y.reshape(&output_dims(x, weight))
}

struct Linear {
    x: Tensor,
    weight: Tensor,
    /// The argument of the GELU, where one is fused.
    pre_activation: Option<Tensor>,
}

impl Linear {
    fn new(x: &Var, weight: &Var, pre_activation: Option<Tensor>) -> Self {
        Self { x: x.value().clone(), weight: weight.value().clone(), pre_activation }
    }
}

impl Op for Linear {
    fn name(&self) -> &'static str {
        "linear"
    }

    /// dx = dy W, dW = dy^T x, db = column sums of dy, d residual = dy.
    fn backward(&self, grad: &Tensor, needs: &Needs) -> Result<Vec<Option<Tensor>>> {
        let ctx = grad.context();
        let dy = match &self.pre_activation {
            Some(pre) => &gelu_backward::launch(ctx, pre, grad)?,
            None => grad,
        };
        let wants = |i: usize| needs.get(i).copied().unwrap_or(false);
        let mut gradients = vec![None; needs.len()];
        if wants(0) {
            let dx = matmul::launch(ctx, &PLAIN, dy, &self.weight, self.x.dtype(), Epilogue::None)?;
            gradients[0] = Some(dx.reshape(self.x.dims())?);
        }
        if wants(1) {
            let dw = needs.place(1, ctx, self.weight.dims())?;
            matmul::launch_into(ctx, &OVER_ROWS, dy, &self.x, &dw, Epilogue::None)?;
            gradients[1] = Some(dw);
        }
        if wants(2) {
            let db = needs.place(2, ctx, &[self.weight.shape().rows()])?;
            column_sum::launch_into(ctx, dy, 1, None, &db)?;
            gradients[2] = Some(db);
        }
        if wants(3) {
            gradients[3] = Some(grad.clone());
        }
        Ok(gradients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;

    #[test]
    fn gradients() {
        check::gradients("linear", &[(&[2, 3, 5], 1), (&[6, 5], 2), (&[6], 3)], |tape, v| {
            linear(tape, &v[0], &v[1], Some(&v[2]))
        });
        check::gradients("linear without bias", &[(&[3, 4], 1), (&[7, 4], 2)], |tape, v| {
            linear(tape, &v[0], &v[1], None)
        });
        check::gradients("linear_gelu", &[(&[3, 5], 1), (&[6, 5], 2), (&[6], 3)], |tape, v| {
            linear_gelu(tape, &v[0], &v[1], &v[2])
        });
        check::gradients("linear_residual", &[(&[3, 5], 1), (&[6, 5], 2), (&[6], 3), (&[3, 6], 4)], |tape, v| {
            linear_residual(tape, &v[0], &v[1], &v[2], &v[3])
        });
    }
}
