//! Layer normalisation (Ba, Kiros and Hinton, arXiv 1607.06450).

use crate::error::Result;
use crate::kernels;
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// `y = (x - mean) / sqrt(variance + 1e-5) * weight + bias` over the last axis, biased variance: `x (.., D)` with the
/// parameters `weight (D)` and `bias (D)`.
///
/// # Errors
/// As [`kernels::layernorm::launch`].
pub fn layernorm(tape: &mut Tape, x: &Var, weight: &Var, bias: &Var) -> Result<Var> {
    let affine = Some((weight.value(), bias.value()));
    let (y, mean, rstd) = kernels::layernorm::launch(tape.context(), x.value(), affine)?;
    let op = LayerNorm { x: x.value().clone(), weight: Some(weight.value().clone()), mean, rstd };
    Ok(tape.push(op, &[x, weight, bias], y))
}

/// [`layernorm`] without weight and bias.
///
/// # Errors
/// As [`kernels::layernorm::launch`].
pub fn normalise(tape: &mut Tape, x: &Var) -> Result<Var> {
    let (y, mean, rstd) = kernels::layernorm::launch(tape.context(), x.value(), None)?;
    Ok(tape.push(LayerNorm { x: x.value().clone(), weight: None, mean, rstd }, &[x], y))
}

struct LayerNorm {
    x: Tensor,
    weight: Option<Tensor>,
    mean: Tensor,
    rstd: Tensor,
}

impl Op for LayerNorm {
    fn name(&self) -> &'static str {
        "layernorm"
    }

    /// With `n = (x - mean) * rstd` and `g = dy * weight`: `dx = rstd * (g - mean(g) - n * mean(g * n))`,
    /// `dweight = sum over rows of dy * n`, `dbias = sum over rows of dy`.
    fn backward(&self, grad: &Tensor, needs: &Needs) -> Result<Vec<Option<Tensor>>> {
        let ctx = grad.context();
        let need = |i: usize| needs.get(i).copied().unwrap_or(false);
        let weight = self.weight.as_ref();
        let mut gradients = vec![None];
        if need(0) {
            let before = needs.take_sum(0).map(|sum| sum.reshape(self.x.dims())).transpose()?;
            let (mean, rstd, before) = (&self.mean, &self.rstd, before.as_ref());
            gradients[0] = Some(kernels::layernorm_backward::launch(ctx, grad, &self.x, weight, mean, rstd, before)?);
        }
        if need(1) || need(2) {
            // Both come out of one pass; a frozen one goes to memory of its own and is dropped.
            let (dweight, dbias, added) = needs.places_or_add([1, 2], ctx, &[self.x.shape().last()])?;
            let (into, statistics) = ((&dweight, &dbias), (&self.mean, &self.rstd));
            kernels::layernorm_backward_params::launch_into(ctx, grad, &self.x, statistics, into, added)?;
            gradients.extend([need(1).then_some(dweight), need(2).then_some(dbias)]);
        }
        gradients.resize(needs.len(), None);
        Ok(gradients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;

    #[test]
    fn derivative() {
        for [r, d] in [[1, 5], [3, 8], [35, 3]] {
            let inputs: [(&[usize], u64); 3] = [(&[r, d], 1), (&[d], 2), (&[d], 3)];
            check::gradients(&format!("layernorm {r}x{d}"), &inputs, |tape, v| layernorm(tape, &v[0], &v[1], &v[2]));
        }
    }

    #[test]
    fn derivative_beside_a_residual_path() {
        let inputs: [(&[usize], u64); 3] = [(&[3, 8], 1), (&[8], 2), (&[8], 3)];
        check::gradients("x + layernorm(x)", &inputs, |tape, v| {
            let y = layernorm(tape, &v[0], &v[1], &v[2])?;
            crate::ops::add::add(tape, &y, &v[0])
        });
        check::gradients("x + x + layernorm(x + x)", &inputs, |tape, v| {
            let twice = crate::ops::add::add(tape, &v[0], &v[0])?;
            let y = layernorm(tape, &twice, &v[1], &v[2])?;
            crate::ops::add::add(tape, &twice, &y)
        });
    }

    #[test]
    fn a_residual_path_takes_no_launch_of_its_own() -> Result<()> {
        let ctx = crate::device::Context::cpu();
        let draw = |dims: &[usize]| crate::kernels::samples::normal(&ctx, dims, crate::shape::DType::F32, 1);
        let mut tape = Tape::new(&ctx);
        let (x, weight, bias) = (tape.leaf(draw(&[3, 8])?), tape.leaf(draw(&[8])?), tape.leaf(draw(&[8])?));
        let y = layernorm(&mut tape, &x, &weight, &bias)?;
        let y = crate::ops::add::add(&mut tape, &y, &x)?;
        let before = ctx.counters().kernels.get("add").copied();
        let _ = tape.backward(&y, &draw(&[3, 8])?)?;
        assert_eq!(ctx.counters().kernels.get("add").copied(), before);
        Ok(())
    }

    #[test]
    fn derivative_without_affine() {
        check::gradients("normalise 2x3x7", &[(&[2, 3, 7], 1)], |tape, v| normalise(tape, &v[0]));
    }
}
