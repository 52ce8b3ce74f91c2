//! Gradient of the masked mean.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `dx[b, n] = dy[b] * mask[b, n] * inverse[b]`.
pub static KERNEL: Kernel = Kernel {
    name: "masked_mean_backward",
    source: include_str!("../../shaders/masked_mean_backward.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("dy"), Binding::f32("mask"), Binding::f32("inverse"), Binding::stored_mut("dx")],
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

/// Returns dx (B, `tokens`, D) stored as dy (B, D). `mask` (B, tokens) F32 and `inverse` (B) F32 as in
/// [`masked_mean::launch`](crate::kernels::masked_mean::launch).
///
/// # Errors
/// A shape error when dy is not of rank 2, or mask or inverse do not fit it.
pub fn launch(ctx: &Context, dy: &Tensor, tokens: usize, mask: Option<&Tensor>, inverse: &Tensor) -> Result<Tensor> {
    let &[b, d] = dy.dims() else {
        return Err(Error::shape("masked_mean_backward", "(samples, width)", dy.shape()));
    };
    if inverse.dims() != [b] {
        return Err(Error::shape("masked_mean_backward", format!("inverse of ({b})"), inverse.shape()));
    }
    if let Some(mask) = mask.filter(|m| m.dims() != [b, tokens]) {
        return Err(Error::shape("masked_mean_backward", format!("a mask of ({b}, {tokens})"), mask.shape()));
    }
    let cells = dy.shape().cells();
    let absent = Tensor::empty(ctx, &[1], DType::F32)?;
    let dx = Tensor::empty(ctx, &[b, tokens, d], dy.dtype())?;
    Launch::new(&KERNEL)
        .tensors(&[dy, mask.unwrap_or(&absent), inverse, &dx])
        .params(&Params {
            samples: b as u32,
            tokens: tokens as u32,
            cells: cells as u32,
            mask_stride: tokens.next_multiple_of(4) as u32,
        })
        .constant("MASKED", if mask.is_some() { 1.0 } else { 0.0 })
        .groups((b * tokens * cells).div_ceil(64))
        .flops(2.0 * dx.shape().elements() as f64)
        .run(ctx)?;
    Ok(dx)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (dy, mask, inverse) = (t.f32(0), t.f32(1), t.f32(2));
    let masked = t.flag("MASKED");
    let (tokens, stride) = (p.tokens as usize, 4 * p.cells as usize);
    let mut dx = Vec::with_capacity(p.samples as usize * tokens * stride);
    for b in 0..p.samples as usize {
        for n in 0..tokens {
            let weight = if masked { mask[b * p.mask_stride as usize + n] } else { 1.0 };
            dx.extend(dy[b * stride..(b + 1) * stride].iter().map(|g| g * weight * inverse[b]));
        }
    }
    t.put_f32(3, dx);
    Ok(())
}

/// (samples, tokens, width, masked) for the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    [(1, 1, 1, false), (3, 5, 7, true), (2, 17, 64, true), (5, 13, 257, false), (33, 2, 9, true)]
        .into_iter()
        .map(|(b, n, d, masked)| {
            Case::new(format!("{b}x{n}x{d} masked {masked}"), Tolerance::elementwise(), move |ctx, storage| {
                let dy = samples::normal(ctx, &[b, d], storage, 1)?;
                let mask = samples::mask(ctx, &[b, n], 0.6, 2)?;
                let inverse = samples::uniform(ctx, &[b], DType::F32, 3)?;
                Ok(vec![launch(ctx, &dy, n, masked.then_some(&mask), &inverse)?])
            })
        })
        .collect()
}

/// Mistakes that the cases must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "sample * p.mask_stride + row - sample * p.tokens", replace: "row" },
    Fault { find: "inverse[sample]", replace: "inverse[0]" },
];
