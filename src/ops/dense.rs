//! `t[b,n,:] = W[n] g[b,:] + bias[n,:]`: one matrix for each position. W (N, D, K), g (B, K), bias (N, D), t (B, N, D).

use crate::device::{Context, Epilogue};
use crate::error::{Error, Result};
use crate::kernels::column_sum;
use crate::kernels::matmul::{Batched, Matmul, launch_batched};
use crate::shape::DType;
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// g (B, K) to (B, N, D).
///
/// # Errors
/// `Error::Shape` when the shapes do not fit, `Error::Limit` when one position's matrix exceeds a binding.
pub fn dense(tape: &mut Tape, g: &Var, weight: &Var, bias: &Var) -> Result<Var> {
    let sizes = Sizes::new(g.value(), weight.value(), bias.value())?;
    let t = Tensor::empty(tape.context(), &[sizes.batch, sizes.positions, sizes.width], g.value().dtype())?;
    // Position n is a product of its own: its rows in t are N rows apart.
    let product = Batched {
        form: Matmul { trans_a: false, trans_b: true },
        rows: sizes.batch,
        width: sizes.width,
        inner: sizes.inner,
        a_row: sizes.inner_cells(),
        b_row: sizes.inner_cells(),
        b_batch: sizes.width * sizes.inner_cells(),
        c_row: sizes.positions * sizes.cells(),
        c_batch: sizes.cells(),
        bias_batch: sizes.cells(),
        ..Batched::default()
    };
    for (first, count) in sizes.groups(tape.context(), weight.value())? {
        let (w, b, out) = (
            part(weight.value(), first, count)?,
            part(bias.value(), first, count)?,
            shifted(&t, first * sizes.cells())?,
        );
        let product = Batched { batches: count, ..product };
        launch_batched(tape.context(), &product, g.value(), &w, &out, Epilogue::Bias(&b))?;
    }
    let op = Dense { g: g.value().clone(), weight: weight.value().clone(), sizes };
    Ok(tape.push(op, &[g, weight, bias], t))
}

#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    positions: usize,
    width: usize,
    inner: usize,
}

impl Sizes {
    fn new(g: &Tensor, weight: &Tensor, bias: &Tensor) -> Result<Self> {
        let (&[batch, inner], &[positions, width, k]) = (g.dims(), weight.dims()) else {
            return Err(Error::shape("dense", "g (B, K), W (N, D, K)", format!("{}, {}", g.shape(), weight.shape())));
        };
        if k != inner || bias.dims() != [positions, width] {
            let got = format!("W {}, bias {}", weight.shape(), bias.shape());
            return Err(Error::shape("dense", format!("W (N, D, {inner}), bias (N, D)"), got));
        }
        Ok(Self { batch, positions, width, inner })
    }

    const fn cells(&self) -> usize {
        self.width.div_ceil(4)
    }

    const fn inner_cells(&self) -> usize {
        self.inner.div_ceil(4)
    }

    /// Groups of positions (first, count) whose matrices fit one binding and whose windows are aligned: the weight of m2ae
    /// has 462 MB, more than many devices bind.
    fn groups(&self, ctx: &Context, weight: &Tensor) -> Result<Vec<(usize, usize)>> {
        let one = weight.bytes() / self.positions as u64;
        let limit = ctx.capabilities().max_binding;
        if weight.bytes() <= limit {
            return Ok(vec![(0, self.positions)]);
        }
        // 64 positions start at a multiple of 64 elements whatever their length; 1 where the lengths allow it.
        let step = if (4 * self.cells()).is_multiple_of(64) { 1 } else { 64 };
        let most = (limit / one) as usize / step * step;
        if most == 0 {
            return Err(Error::Limit {
                what: "binding the dense expansion".into(),
                needed: one * step as u64,
                available: limit,
                advice: "use model.expansion=spatial",
            });
        }
        Ok((0..self.positions).step_by(most).map(|first| (first, most.min(self.positions - first))).collect())
    }
}

/// Positions `first .. first + count` of a tensor whose first axis is the position.
fn part(x: &Tensor, first: usize, count: usize) -> Result<Tensor> {
    let mut dims = x.dims().to_vec();
    if count == dims[0] {
        return Ok(x.clone());
    }
    let each = x.shape().stored() / dims[0];
    dims[0] = count;
    x.window(first * each, &dims)
}

/// The memory of `x` from a cell on.
fn shifted(x: &Tensor, cells: usize) -> Result<Tensor> {
    if cells == 0 { Ok(x.clone()) } else { x.window(4 * cells, &[x.shape().stored() - 4 * cells]) }
}

struct Dense {
    g: Tensor,
    weight: Tensor,
    sizes: Sizes,
}

impl Dense {
    /// `dg[b,:] = sum over n of dt[b,n,:] W[n]`: one product for each position, then their sum.
    fn input(&self, grad: &Tensor) -> Result<Tensor> {
        let (ctx, s) = (grad.context(), self.sizes);
        let partial = Tensor::empty(ctx, &[s.positions, s.batch, s.inner], DType::F32)?;
        let product = Batched {
            form: Matmul::default(),
            rows: s.batch,
            width: s.inner,
            inner: s.width,
            a_row: s.positions * s.cells(),
            a_batch: s.cells(),
            b_row: s.inner_cells(),
            b_batch: s.width * s.inner_cells(),
            c_row: s.inner_cells(),
            c_batch: s.batch * s.inner_cells(),
            ..Batched::default()
        };
        for (first, count) in s.groups(ctx, &self.weight)? {
            let (w, out) = (part(&self.weight, first, count)?, part(&partial, first, count)?);
            let product = Batched { batches: count, ..product };
            launch_batched(ctx, &product, &shifted(grad, first * s.cells())?, &w, &out, Epilogue::None)?;
        }
        let sum = column_sum::launch(ctx, &partial, s.batch, None)?.reshape(self.g.dims())?;
        if self.g.dtype() == DType::F32 { Ok(sum) } else { crate::kernels::cast::launch(ctx, &sum, self.g.dtype()) }
    }

    /// `dW[n] = dt[:,n,:]^T g`.
    fn weights(&self, grad: &Tensor, dw: Tensor) -> Result<Tensor> {
        let (ctx, s) = (grad.context(), self.sizes);
        let product = Batched {
            form: Matmul { trans_a: true, trans_b: false },
            rows: s.width,
            width: s.inner,
            inner: s.batch,
            a_row: s.positions * s.cells(),
            a_batch: s.cells(),
            b_row: s.inner_cells(),
            c_row: s.inner_cells(),
            c_batch: s.width * s.inner_cells(),
            ..Batched::default()
        };
        for (first, count) in s.groups(ctx, &dw)? {
            let out = part(&dw, first, count)?;
            let product = Batched { batches: count, ..product };
            launch_batched(ctx, &product, &shifted(grad, first * s.cells())?, &self.g, &out, Epilogue::None)?;
        }
        Ok(dw)
    }
}

impl Op for Dense {
    fn name(&self) -> &'static str {
        "dense"
    }

    fn backward(&self, grad: &Tensor, needs: &Needs) -> Result<Vec<Option<Tensor>>> {
        let dg = if needs[0] { Some(self.input(grad)?) } else { None };
        let (ctx, s) = (grad.context(), self.sizes);
        let mut gradients = vec![dg, None, None];
        if needs[1] {
            gradients[1] = Some(self.weights(grad, needs.place(1, ctx, self.weight.dims())?)?);
        }
        if needs[2] {
            let (db, added) = needs.place_or_add(2, ctx, &[s.positions, s.width])?;
            column_sum::launch_into(ctx, grad, s.positions, None, &db, added)?;
            gradients[2] = Some(db);
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
        for (b, n, d, k) in [(2, 3, 5, 4), (3, 4, 6, 7), (1, 1, 1, 1)] {
            let inputs = [(&[b, k][..], 1), (&[n, d, k][..], 2), (&[n, d][..], 3)];
            check::gradients("dense", &inputs, |tape, v| dense(tape, &v[0], &v[1], &v[2]));
        }
    }
}
