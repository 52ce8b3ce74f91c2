//! The total loss.

use crate::error::{Error, Result};
use crate::kernels;
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// `y = sum of weight * scalar` over one to four scalars () F32, with fixed weights; () F32.
///
/// # Errors
/// A shape error when there are not as many weights as scalars; else as [`kernels::weighted_sum::launch`].
pub fn weighted_sum(tape: &mut Tape, scalars: &[&Var], weights: &[f32]) -> Result<Var> {
    if scalars.len() != weights.len() {
        return Err(Error::shape("weighted_sum", format!("{} weights", scalars.len()), weights.len()));
    }
    let terms: Vec<_> = scalars.iter().map(|v| v.value()).zip(weights.iter().copied()).collect();
    let y = kernels::weighted_sum::launch(tape.context(), &terms)?;
    Ok(tape.push(WeightedSum { weights: weights.to_vec() }, scalars, y))
}

struct WeightedSum {
    weights: Vec<f32>,
}

impl Op for WeightedSum {
    fn name(&self) -> &'static str {
        "weighted_sum"
    }

    /// Every scalar receives `weight * dy`.
    fn backward(&self, grad: &Tensor, needs: &Needs) -> Result<Vec<Option<Tensor>>> {
        let scale = |weight: f32| kernels::scale_scalar::launch(grad.context(), grad, weight);
        self.weights
            .iter()
            .zip(needs.iter())
            .map(|(&weight, &needed)| needed.then(|| scale(weight)).transpose())
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;

    #[test]
    fn derivative() {
        const WEIGHTS: [f32; 4] = [1.0, 0.1, -2.0, 0.5];
        let inputs: [(&[usize], u64); 4] = [(&[], 1), (&[], 2), (&[], 3), (&[], 4)];
        for count in 1..=4 {
            check::gradients(&format!("weighted_sum of {count}"), &inputs[..count], |tape, v| {
                weighted_sum(tape, &v.iter().collect::<Vec<_>>(), &WEIGHTS[..count])
            });
        }
    }
}
