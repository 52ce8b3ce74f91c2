//! General convolution and its transpose, differentiable in input, weight and bias.

use crate::error::Result;
use crate::kernels::conv2d::Window;
use crate::kernels::{channel_sum, conv2d as forward, conv2d_transposed as transposed, conv2d_weight};
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// `y[b,o,r,q] = bias[o] + sum over (c,i,j) of x[b, c, r s + i - P, q s + j - P] W[o,c,i,j]`: x (B, C, H, W),
/// weight (O, C, h, w), bias (O) give (B, O, (H + 2 P - h) / s + 1, (W + 2 P - w) / s + 1).
///
/// # Errors
/// As [`forward::launch`].
pub fn conv2d(tape: &mut Tape, x: &Var, weight: &Var, bias: &Var, window: Window) -> Result<Var> {
    let y = forward::launch(tape.context(), x.value(), weight.value(), Some(bias.value()), window)?;
    let op = Conv2d { x: x.value().clone(), weight: weight.value().clone(), window };
    Ok(tape.push(op, &[x, weight, bias], y))
}

/// The transpose of [`conv2d`]: x (B, C, H, W), weight (C, O, h, w), bias (O) give (B, O, H', W') with
/// `H' = (H - 1) s - 2 P + h + output_padding`, W' likewise; the output padding is below the stride.
///
/// # Errors
/// As [`transposed::launch`].
pub fn conv2d_transposed(
    tape: &mut Tape,
    x: &Var,
    weight: &Var,
    bias: &Var,
    window: Window,
    output_padding: usize,
) -> Result<Var> {
    let length = |axis: usize| {
        let at = |t: &Tensor| t.dims().get(axis).copied().unwrap_or(1);
        let reach = (at(x.value()) - 1) * window.stride + at(weight.value()) + output_padding;
        reach.saturating_sub(2 * window.padding)
    };
    let (bias_value, size) = (Some(bias.value()), [length(2), length(3)]);
    let y = transposed::launch(tape.context(), x.value(), weight.value(), bias_value, window, size)?;
    let op = Conv2dTransposed { x: x.value().clone(), weight: weight.value().clone(), window };
    Ok(tape.push(op, &[x, weight, bias], y))
}

/// Height and width: the last two axes.
fn plane(t: &Tensor) -> [usize; 2] {
    let at = |axis: usize| t.dims().get(axis).copied().unwrap_or(1);
    [at(2), at(3)]
}

struct Conv2d {
    x: Tensor,
    weight: Tensor,
    window: Window,
}

impl Op for Conv2d {
    fn name(&self) -> &'static str {
        "conv2d"
    }

    /// dx is the transposed convolution of dy with the same weight, dW correlates x with dy, dbias sums dy per channel.
    fn backward(&self, grad: &Tensor, needs: &Needs) -> Result<Vec<Option<Tensor>>> {
        let ctx = grad.context();
        let need = |i: usize| needs.get(i).copied().unwrap_or(false);
        let (window, kernel) = (self.window, plane(&self.weight));
        let x = need(0).then(|| transposed::launch(ctx, grad, &self.weight, None, window, plane(&self.x)));
        let weight = need(1).then(|| conv2d_weight::launch(ctx, &self.x, grad, kernel, window));
        let bias = need(2).then(|| channel_sum::launch(ctx, grad));
        Ok(vec![x.transpose()?, weight.transpose()?, bias.transpose()?])
    }
}

struct Conv2dTransposed {
    x: Tensor,
    weight: Tensor,
    window: Window,
}

impl Op for Conv2dTransposed {
    fn name(&self) -> &'static str {
        "conv2d_transposed"
    }

    /// dx is the convolution of dy with the same weight; in dW x and dy change roles.
    fn backward(&self, grad: &Tensor, needs: &Needs) -> Result<Vec<Option<Tensor>>> {
        let ctx = grad.context();
        let need = |i: usize| needs.get(i).copied().unwrap_or(false);
        let (window, kernel) = (self.window, plane(&self.weight));
        let x = need(0).then(|| forward::launch(ctx, grad, &self.weight, None, window));
        let weight = need(1).then(|| conv2d_weight::launch(ctx, grad, &self.x, kernel, window));
        let bias = need(2).then(|| channel_sum::launch(ctx, grad));
        Ok(vec![x.transpose()?, weight.transpose()?, bias.transpose()?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;

    #[test]
    fn gradients() {
        let cases: [([usize; 4], [usize; 4], Window); 3] = [
            ([2, 2, 5, 4], [3, 2, 3, 3], Window { stride: 1, padding: 1 }),
            ([1, 3, 6, 7], [2, 3, 2, 3], Window { stride: 2, padding: 0 }),
            ([1, 1, 5, 5], [5, 1, 5, 5], Window { stride: 3, padding: 2 }),
        ];
        for (x, weight, window) in cases {
            check::gradients("conv2d", &[(&x, 1), (&weight, 2), (&weight[..1], 3)], |tape, v| {
                conv2d(tape, &v[0], &v[1], &v[2], window)
            });
        }
    }

    #[test]
    fn transposed_gradients() {
        let cases: [([usize; 4], [usize; 4], Window, usize); 3] = [
            ([2, 2, 3, 4], [2, 3, 3, 3], Window { stride: 1, padding: 1 }, 0),
            ([1, 3, 3, 2], [3, 2, 2, 3], Window { stride: 2, padding: 0 }, 1),
            ([1, 1, 3, 3], [1, 5, 4, 4], Window { stride: 3, padding: 1 }, 2),
        ];
        for (x, weight, window, output_padding) in cases {
            check::gradients("conv2d_transposed", &[(&x, 1), (&weight, 2), (&weight[1..2], 3)], |tape, v| {
                conv2d_transposed(tape, &v[0], &v[1], &v[2], window, output_padding)
            });
        }
    }
}
