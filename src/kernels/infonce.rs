//! The symmetric contrastive loss of matched pairs.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, loss_mean, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `loss[i] = (row_lse[i] + column_lse[i]) / 2 - logits[i, i]`, log-sum-exps over the valid samples.
pub static KERNEL: Kernel = Kernel {
    name: "infonce",
    source: include_str!("../../shaders/infonce.wgsl"),
    parts: &[Part::Grid, Part::Rows, Part::Reduce],
    bindings: &[
        Binding::stored("logits"),
        Binding::f32("mask"),
        Binding::f32_mut("row_lse"),
        Binding::f32_mut("column_lse"),
        Binding::f32_mut("pairs"),
    ],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    samples: u32,
    cells: u32,
}

/// What the backward kernel needs of the forward one.
#[derive(Clone)]
pub struct Saved {
    /// 1 over the number of valid samples, 0 when there are fewer than two; () F32.
    pub inverse: Tensor,
    /// Log-sum-exp of every valid row over the valid columns; (B) F32.
    pub row_lse: Tensor,
    /// Log-sum-exp of every valid column over the valid rows; (B) F32.
    pub column_lse: Tensor,
}

/// The side of square logits with a mask that fits.
pub(crate) fn side(operation: &'static str, logits: &Tensor, mask: &Tensor) -> Result<usize> {
    match (logits.dims(), mask.dims()) {
        (&[rows, columns], &[valid]) if rows == columns && rows == valid => Ok(rows),
        _ => Err(Error::shape(
            operation,
            format!("logits (B, B) with a mask (B), here {}", mask.shape()),
            logits.shape(),
        )),
    }
}

/// Returns the loss () F32 = (cross-entropy of the rows + that of the columns) / 2 with the diagonal as target, over the
/// valid samples only; 0 when fewer than two are valid. logits (B, B); mask (B) F32, 1 = valid.
///
/// # Errors
/// A shape error when the logits are not square or the mask is not (B).
pub fn launch(ctx: &Context, logits: &Tensor, mask: &Tensor) -> Result<(Tensor, Saved)> {
    let side = side("infonce", logits, mask)?;
    let row_lse = Tensor::empty(ctx, &[side], DType::F32)?;
    let column_lse = Tensor::empty(ctx, &[side], DType::F32)?;
    let pairs = Tensor::empty(ctx, &[side, 2], DType::F32)?;
    Launch::new(&KERNEL)
        .tensors(&[logits, mask, &row_lse, &column_lse, &pairs])
        .params(&Params { samples: side as u32, cells: logits.shape().cells() as u32 })
        .groups(side)
        .flops(8.0 * logits.shape().elements() as f64)
        .run(ctx)?;
    let (loss, inverse) = loss_mean::launch(ctx, &pairs, 1, 2)?;
    Ok((loss, Saved { inverse, row_lse, column_lse }))
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (logits, mask) = (t.f32(0), t.f32(1));
    let (side, stride) = (p.samples as usize, 4 * p.cells as usize);
    let valid: Vec<usize> = (0..side).filter(|&i| mask[i] != 0.0).collect();
    let lse = |logit: &dyn Fn(usize) -> f32| {
        let highest = valid.iter().map(|&j| f64::from(logit(j))).fold(f64::MIN, f64::max);
        highest + valid.iter().map(|&j| (f64::from(logit(j)) - highest).exp()).sum::<f64>().ln()
    };
    let mut row_lse = vec![0.0; side.next_multiple_of(4)];
    let mut column_lse = row_lse.clone();
    let mut pairs = vec![0.0; 4 * side];
    for &i in &valid {
        let row = lse(&|j| logits[i * stride + j]);
        let column = lse(&|j| logits[j * stride + i]);
        row_lse[i] = row as f32;
        column_lse[i] = column as f32;
        pairs[4 * i] = ((row + column) / 2.0 - f64::from(logits[i * stride + i])) as f32;
        pairs[4 * i + 1] = 1.0;
    }
    t.put_f32(2, row_lse);
    t.put_f32(3, column_lse);
    t.put_f32(4, pairs);
    Ok(())
}

/// (samples, share valid) for the parity tests of this kernel and its gradient; a share of 0 and a single sample have
/// fewer than two valid.
pub(crate) const SHAPES: [(usize, f32); 6] = [(1, 1.0), (3, 1.0), (7, 0.5), (13, 0.0), (64, 0.8), (131, 0.7)];

/// Shapes for the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    SHAPES
        .into_iter()
        .map(|(side, share)| {
            Case::new(format!("{side} valid {share}"), Tolerance::sum(side), move |ctx, storage| {
                let logits = samples::normal(ctx, &[side, side], storage, 1)?;
                let mask = samples::mask(ctx, &[side], share, 2)?;
                let (loss, saved) = launch(ctx, &logits, &mask)?;
                Ok(vec![loss, saved.inverse, saved.row_lse, saved.column_lse])
            })
        })
        .collect()
}

/// Mistakes that the cases must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "logit(j, i)", replace: "logit(i, j)" },
    Fault { find: "if mask[j] != 0.0", replace: "if true" },
    Fault { find: " - logit(i, i)", replace: "" },
    Fault { find: "sum * exp(top - highest)", replace: "sum" },
];
