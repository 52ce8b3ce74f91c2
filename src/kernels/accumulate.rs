//! `dst += scale * src` in f32: how a gradient reaches the slot of its parameter.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `dst = dst + scale * src`.
pub static KERNEL: Kernel = Kernel {
    name: "accumulate",
    source: include_str!("../../shaders/accumulate.wgsl"),
    parts: &[Part::Grid, Part::Cells],
    bindings: &[Binding::f32("src"), Binding::f32_mut("dst")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
    scale: f32,
}

const WORKGROUP: usize = 256;

/// Adds `scale * src` to `dst` in place; both f32 and of one shape.
///
/// # Errors
/// [`Error::Shape`] when the shapes differ, [`Error::Kernel`] when one is not f32.
pub fn launch(ctx: &Context, src: &Tensor, dst: &Tensor, scale: f32) -> Result<()> {
    if dst.shape() != src.shape() {
        return Err(Error::shape("accumulate", dst.shape(), src.shape()));
    }
    let cells = dst.shape().stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[src, dst])
        .params(&Params { cells: cells as u32, scale })
        .groups(cells.div_ceil(WORKGROUP))
        .flops(2.0 * dst.shape().elements() as f64)
        .run(ctx)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let add = |(d, s): (f32, f32)| (f64::from(d) + f64::from(p.scale) * f64::from(s)) as f32;
    let sum = t.f32(1).into_iter().zip(t.f32(0)).map(add).collect();
    t.put_f32(1, sum);
    Ok(())
}

/// Sizes around a cell and a workgroup, scales that are not powers of two.
pub fn cases() -> Vec<Case> {
    [(&[][..], 1.0), (&[1], -0.3), (&[7], 1.0), (&[1023], 0.7), (&[3, 5], 1.0), (&[2, 3, 257], -1.7)]
        .into_iter()
        .map(|(dims, scale)| {
            Case::new(format!("{dims:?} * {scale}"), Tolerance::elementwise(), move |ctx, _| {
                let dst = samples::normal(ctx, dims, DType::F32, 1)?;
                launch(ctx, &samples::normal(ctx, dims, DType::F32, 2)?, &dst, scale)?;
                Ok(vec![dst])
            })
        })
        .collect()
}

/// Wrong texts that a case must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "floats(dst[cell]) + p.scale", replace: "p.scale" },
    Fault { find: "p.scale * floats(src[cell])", replace: "floats(src[cell])" },
    Fault { find: "* WORKGROUP + lid", replace: "* 64u + lid" },
];
