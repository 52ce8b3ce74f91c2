//! Gradient of the symmetric contrastive loss.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::Result;
use crate::kernels::infonce::{SHAPES, Saved, side};
use crate::kernels::{Case, Fault, Tolerance, infonce, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `dlogits[i, j] = upstream * inverse / 2 * (exp(l - row_lse[i]) + exp(l - column_lse[j]) - 2 [i == j])` among valid ones.
pub static KERNEL: Kernel = Kernel {
    name: "infonce_backward",
    source: include_str!("../../shaders/infonce_backward.wgsl"),
    parts: &[Part::Grid],
    bindings: &[
        Binding::f32("upstream"),
        Binding::f32("inverse"),
        Binding::stored("logits"),
        Binding::f32("mask"),
        Binding::f32("row_lse"),
        Binding::f32("column_lse"),
        Binding::stored_mut("dlogits"),
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

/// Returns the gradient of the logits, shaped and stored as they. `upstream` () F32 is the gradient of the loss; `saved`
/// comes from [`infonce::launch`].
///
/// # Errors
/// A shape error when the logits are not square or the mask is not (B).
pub fn launch(ctx: &Context, upstream: &Tensor, logits: &Tensor, mask: &Tensor, saved: &Saved) -> Result<Tensor> {
    let side = side("infonce_backward", logits, mask)?;
    let cells = logits.shape().cells();
    let dlogits = Tensor::empty(ctx, logits.dims(), logits.dtype())?;
    Launch::new(&KERNEL)
        .tensors(&[upstream, &saved.inverse, logits, mask, &saved.row_lse, &saved.column_lse, &dlogits])
        .params(&Params { samples: side as u32, cells: cells as u32 })
        .groups((side * cells).div_ceil(64))
        .flops(6.0 * logits.shape().elements() as f64)
        .run(ctx)?;
    Ok(dlogits)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let scale = f64::from(t.f32(0)[0]) * f64::from(t.f32(1)[0]) / 2.0;
    let (logits, mask, row_lse, column_lse) = (t.f32(2), t.f32(3), t.f32(4), t.f32(5));
    let (side, stride) = (p.samples as usize, 4 * p.cells as usize);
    let mut gradient = vec![0.0; side * stride];
    for i in (0..side).filter(|&i| mask[i] != 0.0) {
        for j in (0..side).filter(|&j| mask[j] != 0.0) {
            let v = f64::from(logits[i * stride + j]);
            let hit = if i == j { 2.0 } else { 0.0 };
            let slope = (v - f64::from(row_lse[i])).exp() + (v - f64::from(column_lse[j])).exp() - hit;
            gradient[i * stride + j] = (scale * slope) as f32;
        }
    }
    t.put_f32(6, gradient);
    Ok(())
}

/// Shapes for the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    SHAPES
        .into_iter()
        .map(|(side, share)| {
            Case::new(format!("{side} valid {share}"), Tolerance::sum(16), move |ctx, storage| {
                let upstream = samples::uniform(ctx, &[], DType::F32, 3)?;
                let logits = samples::normal(ctx, &[side, side], storage, 1)?;
                let mask = samples::mask(ctx, &[side], share, 2)?;
                let (_, saved) = infonce::launch(ctx, &logits, &mask)?;
                Ok(vec![launch(ctx, &upstream, &logits, &mask, &saved)?])
            })
        })
        .collect()
}

/// Mistakes that the cases must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "column_lse[cell]", replace: "row_lse[cell]" },
    Fault { find: "vec4<f32>(2.0)", replace: "vec4<f32>(1.0)" },
    Fault { find: "g = select(g, vec4<f32>(0.0), mask[cell] == vec4<f32>(0.0));", replace: "" },
];
