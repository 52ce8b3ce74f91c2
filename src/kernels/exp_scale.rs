//! A tensor times the exponential of a learned scalar.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// `y = exp(s) * x`.
pub static KERNEL: Kernel = Kernel {
    name: "exp_scale",
    source: include_str!("../../shaders/exp_scale.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("s"), Binding::stored("x"), Binding::stored_mut("y")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
}

/// Returns y, shaped as x. `s` is a scalar () in x's storage. With dy in the place of x it is the gradient of x.
///
/// # Errors
/// A shape error when s is not a scalar.
pub fn launch(ctx: &Context, s: &Tensor, x: &Tensor) -> Result<Tensor> {
    if s.shape().elements() != 1 {
        return Err(Error::shape("exp_scale", "a scalar s", s.shape()));
    }
    let y = Tensor::empty(ctx, x.dims(), x.dtype())?;
    let cells = x.shape().stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[s, x, &y])
        .params(&Params { cells: cells as u32 })
        .groups(cells.div_ceil(64))
        .flops(x.shape().elements() as f64)
        .run(ctx)?;
    Ok(y)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let scale = f64::from(t.f32(0)[0]).exp();
    let y = t.f32(1).iter().map(|&v| (scale * f64::from(v)) as f32).collect();
    t.put_f32(2, y);
    Ok(())
}

/// Shapes for the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    [&[1][..], &[3, 5], &[7, 65], &[2, 3, 9]]
        .into_iter()
        .map(|dims| {
            Case::new(format!("{dims:?}"), Tolerance::elementwise(), move |ctx, storage| {
                let s = samples::normal(ctx, &[], storage, 1)?;
                Ok(vec![launch(ctx, &s, &samples::normal(ctx, dims, storage, 2)?)?])
            })
        })
        .collect()
}

/// Mistakes that the cases must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "exp(unpack4(s[0]).x)", replace: "unpack4(s[0]).x" },
    Fault { find: "unpack4(x[index])", replace: "unpack4(x[0])" },
];
