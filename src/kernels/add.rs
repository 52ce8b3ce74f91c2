//! c = a + b, elementwise.

use bytemuck::{Pod, Zeroable};

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// c = a + b.
pub static KERNEL: Kernel = Kernel {
    name: "add",
    source: include_str!("../../shaders/add.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("a"), Binding::stored("b"), Binding::stored_mut("c")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    cells: u32,
}

/// The sum of two tensors of one shape and type.
///
/// # Errors
/// `Error::Shape` when they differ.
pub fn launch(ctx: &Context, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.shape() != b.shape() {
        return Err(Error::shape("add", a.shape(), b.shape()));
    }
    let c = Tensor::empty(ctx, a.dims(), a.dtype())?;
    let cells = a.shape().stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[a, b, &c])
        .params(&Params { cells: cells as u32 })
        .groups(cells.div_ceil(64))
        .flops(4.0 * cells as f64)
        .run(ctx)?;
    Ok(c)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let c = t.f32(0).iter().zip(t.f32(1)).map(|(a, b)| a + b).collect();
    t.put_f32(2, c);
    Ok(())
}

/// Odd sizes, and one grid that must be folded.
#[must_use]
pub fn cases() -> Vec<Case> {
    [&[1][..], &[7], &[3, 5], &[2, 3, 4, 65]]
        .into_iter()
        .map(|dims| {
            Case::new(format!("{dims:?}"), Tolerance::elementwise(), move |ctx, dtype| {
                let (a, b) = (samples::normal(ctx, dims, dtype, 1)?, samples::normal(ctx, dims, dtype, 2)?);
                Ok(vec![launch(ctx, &a, &b)?])
            })
        })
        .collect()
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[];
