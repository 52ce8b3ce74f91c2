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

/// residual + gelu(x W1^T + b1) W2^T + b2, each layer given as its weight and bias.
///
/// # Errors
/// As [`linear`]; `Error::Shape` when the residual has another shape than the result.
pub fn mlp(tape: &mut Tape, x: &Var, first: [&Var; 2], second: [&Var; 2], residual: &Var) -> Result<Var> {
    let dims = output_dims(x.value(), first[0].value());
    let pre_activation = Tensor::empty(tape.context(), &dims, x.value().dtype())?;
    let epilogue = Epilogue::BiasGelu { bias: first[1].value(), pre_activation: &pre_activation };
    let hidden = product(x.value(), first[0].value(), epilogue)?;
    let dims = output_dims(&hidden, second[0].value());
    if residual.value().dims() != dims {
        return Err(Error::shape("mlp", format!("{dims:?}"), residual.value().shape()));
    }
    let epilogue = Epilogue::BiasResidual { bias: second[1].value(), residual: residual.value() };
    let y = product(&hidden, second[0].value(), epilogue)?;
    let op = Mlp {
        first: Linear::new(x, first[0], None),
        second: Linear { x: hidden, weight: second[0].value().clone(), pre_activation: None },
        pre_activation,
    };
    Ok(tape.push(op, &[x, first[0], first[1], second[0], second[1], residual], y))
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
        let mut gradients = vec![None; 4]; // of as many as there are inputs: a bias and a residual may be missing
        if wants(needs, 0) {
            gradients[0] = Some(of_input(dy, &self.weight, &self.x, Epilogue::None)?);
        }
        [gradients[1], gradients[2]] = of_parameters(needs, 1, dy, &self.x, &self.weight)?;
        if wants(needs, 3) {
            gradients[3] = Some(grad.clone());
        }
        gradients.truncate(needs.len());
        Ok(gradients)
    }
}

fn wants(needs: &Needs, i: usize) -> bool {
    needs.get(i).copied().unwrap_or(false)
}

/// dy W, then an epilogue, of the shape of x.
fn of_input(dy: &Tensor, weight: &Tensor, x: &Tensor, epilogue: Epilogue<'_>) -> Result<Tensor> {
    matmul::launch(dy.context(), &PLAIN, dy, weight, x.dtype(), epilogue)?.reshape(x.dims())
}

/// The gradients of a weight, input `i` of its operation, and of its bias, the next one, as far as they are wanted. Where both are,
/// one launch reads dy for both.
fn of_parameters(needs: &Needs, i: usize, dy: &Tensor, x: &Tensor, weight: &Tensor) -> Result<[Option<Tensor>; 2]> {
    let ctx = dy.context();
    let of_weight = || needs.place_or_add(i, ctx, weight.dims());
    let of_bias = || needs.place_or_add(i + 1, ctx, &[weight.shape().rows()]);
    let (weight, bias) = (wants(needs, i).then(of_weight).transpose()?, wants(needs, i + 1).then(of_bias).transpose()?);
    match (&weight, &bias) {
        (Some((dw, added)), Some((sums, added_too))) if added == added_too => {
            matmul::launch_into(ctx, &OVER_ROWS, dy, x, dw, Epilogue::RowSums { sums, added: *added })?;
        }
        _ => {
            if let Some((dw, added)) = &weight {
                let epilogue = if *added { Epilogue::Added } else { Epilogue::None };
                matmul::launch_into(ctx, &OVER_ROWS, dy, x, dw, epilogue)?;
            }
            if let Some((db, added)) = &bias {
                column_sum::launch_into(ctx, dy, 1, None, db, *added)?;
            }
        }
    }
    Ok([weight, bias].map(|place| place.map(|(gradient, _)| gradient)))
}

/// The MLP of a block: gelu(x W1^T + b1) goes into a second layer whose gradient takes the slope of the GELU along.
struct Mlp {
    first: Linear,
    second: Linear,
    pre_activation: Tensor,
}

impl Op for Mlp {
    fn name(&self) -> &'static str {
        "mlp"
    }

    /// da = (dy W2) gelu'(a) with a the argument of the GELU, one launch; the rest as for two linear layers.
    fn backward(&self, grad: &Tensor, needs: &Needs) -> Result<Vec<Option<Tensor>>> {
        let Self { first, second, pre_activation } = self;
        let mut gradients = vec![None; needs.len()];
        [gradients[3], gradients[4]] = of_parameters(needs, 3, grad, &second.x, &second.weight)?;
        if (0..3).any(|i| wants(needs, i)) {
            let da = of_input(grad, &second.weight, &second.x, Epilogue::GeluSlope { pre_activation })?;
            [gradients[1], gradients[2]] = of_parameters(needs, 1, &da, &first.x, &first.weight)?;
            if wants(needs, 0) {
                gradients[0] = Some(of_input(&da, &first.weight, &first.x, Epilogue::None)?);
            }
        }
        if wants(needs, 5) {
            gradients[5] = Some(grad.clone());
        }
        Ok(gradients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;
    use crate::tape::Written;

    /// A weight that is used twice: one gradient is written, the other added by the product itself, or both are added to what
    /// the slot held.
    #[test]
    fn a_weight_that_is_used_twice() -> Result<()> {
        use crate::kernels::samples;
        use crate::shape::DType;
        let ctx = crate::device::Context::cpu();
        let draw = |seed| samples::normal(&ctx, &[3, 3], DType::F32, seed);
        // What stands in the slot before the first pass does not count.
        let held = draw(4)?;
        let (x, w, seed) = (draw(1)?, draw(2)?, draw(3)?);
        let run = |mut tape: Tape, slot: Option<&Tensor>| -> Result<Vec<f32>> {
            let x = tape.constant(x.clone());
            let weight = if slot.is_some() { tape.parameter(w.clone(), slot.cloned()) } else { tape.leaf(w.clone()) };
            let y = linear(&mut tape, &x, &weight, None)?;
            let y = linear(&mut tape, &y, &weight, None)?;
            let gradients = tape.backward(&y, &seed)?;
            slot.or_else(|| gradients.get(&weight)).map_or_else(|| Ok(Vec::new()), Tensor::to_f32)
        };
        let want = run(Tape::new(&ctx), None)?;
        let adds = || ctx.counters().kernels.get("accumulate").copied();
        let before = adds();
        let first = run(Tape::overwriting(&ctx, &Written::default()), Some(&held))?;
        let second = run(Tape::new(&ctx), Some(&held))?;
        assert_eq!(adds(), before, "a launch of its own");
        assert!(want.iter().any(|g| g.abs() > 0.1), "{want:?}");
        for (i, g) in want.iter().enumerate() {
            assert!(
                (first[i] - g).abs() < 1e-5 && (second[i] - 2.0 * g).abs() < 1e-5,
                "{i}: {first:?} {second:?} {want:?}"
            );
        }
        Ok(())
    }

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
        let inputs = [(&[3, 5][..], 1), (&[6, 5], 2), (&[6], 3), (&[4, 6], 4), (&[4], 5), (&[3, 4], 6)];
        check::gradients("mlp", &inputs, |tape, v| mlp(tape, &v[0], [&v[1], &v[2]], [&v[3], &v[4]], &v[5]));
        check::gradients("linear_residual", &[(&[3, 5], 1), (&[6, 5], 2), (&[6], 3), (&[3, 6], 4)], |tape, v| {
            linear_residual(tape, &v[0], &v[1], &v[2], &v[3])
        });
    }
}
