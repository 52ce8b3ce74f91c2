//! A scalar times a fixed weight.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `y = weight * x`.
pub static KERNEL: Kernel = Kernel {
    name: "scale_scalar",
    source: include_str!("../../shaders/scale_scalar.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::f32("x"), Binding::f32_mut("y")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    weight: f32,
}

/// Returns `weight * x`, both () F32.
///
/// # Errors
/// A shape error when x is not a scalar.
pub fn launch(ctx: &Context, x: &Tensor, weight: f32) -> Result<Tensor> {
    if x.shape().elements() != 1 {
        return Err(Error::shape("scale_scalar", "a scalar", x.shape()));
    }
    let y = Tensor::empty(ctx, &[], DType::F32)?;
    Launch::new(&KERNEL).tensors(&[x, &y]).params(&Params { weight }).groups(1).flops(1.0).run(ctx)?;
    Ok(y)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let x = t.f32(0);
    t.put_f32(1, vec![p.weight * x[0], 0.0, 0.0, 0.0]);
    Ok(())
}

/// Weights for the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    [0.0, 1.0, -0.37]
        .into_iter()
        .map(|weight| {
            Case::new(format!("weight {weight}"), Tolerance::elementwise(), move |ctx, _| {
                Ok(vec![launch(ctx, &samples::normal(ctx, &[], DType::F32, 1)?, weight)?])
            })
        })
        .collect()
}

/// Mistakes that the cases must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "p.weight * x[0]", replace: "x[0]" },
    Fault { find: "x[0], 0.0, 0.0, 0.0", replace: "x[0], x[0], 0.0, 0.0" },
];
