//! The end of every loss: a sum divided by a count, without a read-back.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `inverse = 1 / (terms * count)`, 0 when `count < least`; `mean = sum * inverse`.
pub static KERNEL: Kernel = Kernel {
    name: "loss_mean",
    source: include_str!("../../shaders/loss_mean.wgsl"),
    parts: &[Part::Grid, Part::Rows, Part::Reduce],
    bindings: &[Binding::f32("pairs"), Binding::f32_mut("mean"), Binding::f32_mut("inverse")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    terms: f32,
    least: f32,
}

/// Returns `(mean, inverse)`, both () F32, of the pairs (rows, 2) F32 of (sum, count). One count stands for `terms`
/// elements; a total count below `least` makes both 0.
///
/// # Errors
/// A shape error when the pairs are not (rows, 2).
pub fn launch(ctx: &Context, pairs: &Tensor, terms: usize, least: usize) -> Result<(Tensor, Tensor)> {
    let &[rows, 2] = pairs.dims() else {
        return Err(Error::shape("loss_mean", "(rows, 2)", pairs.shape()));
    };
    let mean = Tensor::empty(ctx, &[], DType::F32)?;
    let inverse = Tensor::empty(ctx, &[], DType::F32)?;
    Launch::new(&KERNEL)
        .tensors(&[pairs, &mean, &inverse])
        .params(&Params { rows: rows as u32, terms: terms as f32, least: least as f32 })
        .groups(1)
        .flops(2.0 * rows as f64)
        .run(ctx)?;
    Ok((mean, inverse))
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (mut sum, mut count) = (0f64, 0f64);
    for pair in t.f32(0).chunks_exact(4).take(p.rows as usize) {
        sum += f64::from(pair[0]);
        count += f64::from(pair[1]);
    }
    let inverse = if count < f64::from(p.least) { 0.0 } else { 1.0 / (f64::from(p.terms) * count) };
    t.put_f32(1, vec![(sum * inverse) as f32, 0.0, 0.0, 0.0]);
    t.put_f32(2, vec![inverse as f32, 0.0, 0.0, 0.0]);
    Ok(())
}

/// (pairs, terms, least count) for the parity test; the last but one asks for more than there is.
#[must_use]
pub fn cases() -> Vec<Case> {
    [(1, 1, 0), (3, 7, 1), (65, 768, 2), (5, 3, 1000), (1031, 4, 1)]
        .into_iter()
        .map(|(rows, terms, least)| {
            Case::new(format!("{rows} pairs of {terms}, least {least}"), Tolerance::sum(rows), move |ctx, _| {
                let (mean, inverse) = launch(ctx, &samples::uniform(ctx, &[rows, 2], DType::F32, 1)?, terms, least)?;
                Ok(vec![mean, inverse])
            })
        })
        .collect()
}

/// Mistakes that the cases must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "p.terms * total.y", replace: "total.y" },
    Fault { find: "total.y >= p.least", replace: "true" },
    Fault { find: "pairs[i + 3u * WORKGROUP].xy", replace: "pairs[i].xy" },
];
