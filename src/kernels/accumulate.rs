//! dst += scale * src, in f32.

use bytemuck::{Pod, Zeroable};

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault};
use crate::tensor::Tensor;

/// dst += scale * src.
pub static KERNEL: Kernel = Kernel {
    name: "accumulate",
    source: include_str!("../../shaders/accumulate.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::f32("src"), Binding::f32_mut("dst")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    cells: u32,
    scale: f32,
}

/// Adds `scale * src` to `dst`.
///
/// # Errors
/// `Error::Shape` when they differ.
pub fn launch(ctx: &Context, src: &Tensor, dst: &Tensor, scale: f32) -> Result<()> {
    if src.shape() != dst.shape() {
        return Err(Error::shape("accumulate", dst.shape(), src.shape()));
    }
    let cells = src.shape().stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[src, dst])
        .params(&Params { cells: cells as u32, scale })
        .groups(cells.div_ceil(64))
        .run(ctx)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let sum = t.f32(1).iter().zip(t.f32(0)).map(|(d, s)| d + p.scale * s).collect();
    t.put_f32(1, sum);
    Ok(())
}

/// Cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    Vec::new()
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[];
