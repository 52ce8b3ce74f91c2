//! Mean over the kept tokens of every sample.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `y[b] = sum over n of mask[b, n] x[b, n] / sum over n of mask[b, n]`, 0 where nothing is kept.
pub static KERNEL: Kernel = Kernel {
    name: "masked_mean",
    source: include_str!("../../shaders/masked_mean.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("x"), Binding::f32("mask"), Binding::stored_mut("y"), Binding::f32_mut("inverse")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    samples: u32,
    tokens: u32,
    cells: u32,
    mask_stride: u32,
}

/// Returns `(y, inverse)`: y (B, D) stored as x (B, N, D); inverse (B) F32, 1 over the number of kept tokens or 0, for
/// the backward kernel. `mask` is (B, N) F32; without it all tokens are kept.
///
/// # Errors
/// A shape error when x is not of rank 3 or the mask is not its first two axes.
pub fn launch(ctx: &Context, x: &Tensor, mask: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
    let &[b, n, d] = x.dims() else {
        return Err(Error::shape("masked_mean", "(samples, tokens, width)", x.shape()));
    };
    if let Some(mask) = mask.filter(|m| m.dims() != [b, n]) {
        return Err(Error::shape("masked_mean", format!("a mask of ({b}, {n})"), mask.shape()));
    }
    let cells = x.shape().cells();
    let absent = Tensor::empty(ctx, &[1], DType::F32)?;
    let y = Tensor::empty(ctx, &[b, d], x.dtype())?;
    let inverse = Tensor::empty(ctx, &[b], DType::F32)?;
    Launch::new(&KERNEL)
        .tensors(&[x, mask.unwrap_or(&absent), &y, &inverse])
        .params(&Params {
            samples: b as u32,
            tokens: n as u32,
            cells: cells as u32,
            mask_stride: n.next_multiple_of(4) as u32,
        })
        .constant("MASKED", if mask.is_some() { 1.0 } else { 0.0 })
        .groups((b * cells).div_ceil(64))
        .flops(2.0 * x.shape().elements() as f64)
        .run(ctx)?;
    Ok((y, inverse))
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (x, mask) = (t.f32(0), t.f32(1));
    let masked = t.flag("MASKED");
    let (samples, tokens, stride) = (p.samples as usize, p.tokens as usize, 4 * p.cells as usize);
    let mut y = vec![0.0; samples * stride];
    let mut inverse = vec![0.0; samples.next_multiple_of(4)];
    for b in 0..samples {
        let weight = |n: usize| if masked { f64::from(mask[b * p.mask_stride as usize + n]) } else { 1.0 };
        let kept: f64 = (0..tokens).map(weight).sum();
        if kept == 0.0 {
            continue;
        }
        inverse[b] = (1.0 / kept) as f32;
        for c in 0..stride {
            let kept_tokens = (0..tokens).filter(|&n| weight(n) != 0.0);
            let sum: f64 = kept_tokens.map(|n| weight(n) * f64::from(x[(b * tokens + n) * stride + c])).sum();
            y[b * stride + c] = (sum / kept) as f32;
        }
    }
    t.put_f32(2, y);
    t.put_f32(3, inverse);
    Ok(())
}

/// (samples, tokens, width, share of tokens kept) for the parity test; `None`: no mask. A share of 0 keeps nothing.
#[must_use]
pub fn cases() -> Vec<Case> {
    [
        (1, 1, 1, None),
        (3, 5, 7, Some(0.6)),
        (2, 17, 64, Some(0.3)),
        (2, 3, 5, Some(0.0)),
        (5, 13, 257, None),
        (33, 2, 9, Some(0.5)),
    ]
    .into_iter()
    .map(|(b, n, d, share)| {
        Case::new(format!("{b}x{n}x{d} kept {share:?}"), Tolerance::sum(n), move |ctx, storage| {
            let x = samples::normal(ctx, &[b, n, d], storage, 1)?;
            let mask = samples::mask(ctx, &[b, n], share.unwrap_or(1.0), 2)?;
            let (y, inverse) = launch(ctx, &x, share.map(|_| &mask))?;
            Ok(vec![y, inverse])
        })
    })
    .collect()
}

/// Mistakes that the cases must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "kept += m;", replace: "kept += 1.0;" },
    Fault { find: "sample * p.mask_stride + n", replace: "sample * p.tokens + n" },
    Fault { find: "select(0.0, 1.0 / kept, kept > 0.0)", replace: "1.0 / kept" },
];
