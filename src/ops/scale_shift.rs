//! One vector per sample spread over N positions.

use crate::error::Result;
use crate::kernels;
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// `t[b,n,:] = g[b,:] * scale[n,:] + shift[n,:]`: `g (B, D)` with the parameters `scale (N, D)` and `shift (N, D)` gives
/// `(B, N, D)`.
///
/// # Errors
/// As [`kernels::scale_shift::launch`].
pub fn scale_shift(tape: &mut Tape, g: &Var, scale: &Var, shift: &Var) -> Result<Var> {
    let t = kernels::scale_shift::launch(tape.context(), g.value(), scale.value(), shift.value())?;
    let op = ScaleShift { g: g.value().clone(), scale: scale.value().clone() };
    Ok(tape.push(op, &[g, scale, shift], t))
}

struct ScaleShift {
    g: Tensor,
    scale: Tensor,
}

impl Op for ScaleShift {
    fn name(&self) -> &'static str {
        "scale_shift"
    }

    /// `dg[b,:] = sum over n of dt[b,n,:] * scale[n,:]`, `dscale[n,:] = sum over b of dt[b,n,:] * g[b,:]`,
    /// `dshift[n,:] = sum over b of dt[b,n,:]`.
    fn backward(&self, grad: &Tensor, needs: &Needs) -> Result<Vec<Option<Tensor>>> {
        let &[input, scale, shift] = &**needs else { return Ok(Vec::new()) };
        let ctx = grad.context();
        let mut gradients = vec![None; 3];
        if input {
            gradients[0] = Some(kernels::scale_shift_backward_input::launch(ctx, grad, &self.scale)?);
        }
        if scale || shift {
            // Both come out of one pass; a frozen one goes to memory of its own and is dropped.
            let (dscale, dshift, added) = needs.places_or_add([1, 2], ctx, self.scale.dims())?;
            kernels::scale_shift_backward_params::launch_into(ctx, grad, &self.g, (&dscale, &dshift), added)?;
            gradients[1] = scale.then_some(dscale);
            gradients[2] = shift.then_some(dshift);
        }
        Ok(gradients)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::check;

    #[test]
    fn derivative() {
        for [b, n, d] in [[2, 3, 5], [3, 1, 4], [1, 6, 3]] {
            let inputs: [(&[usize], u64); 3] = [(&[b, d], 1), (&[n, d], 2), (&[n, d], 3)];
            check::gradients(&format!("scale_shift B {b} N {n} D {d}"), &inputs, |tape, v| {
                scale_shift(tape, &v[0], &v[1], &v[2])
            });
        }
    }
}
