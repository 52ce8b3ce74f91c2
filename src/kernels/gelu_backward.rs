//! Gradient of GELU.

use super::gelu::{EDGES, TOLERANCE};
use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, samples};
use crate::tensor::Tensor;

/// Invocations per workgroup, as in the shader.
const WORKGROUP: usize = 256;

/// `dx = dy gelu'(x)`.
pub static KERNEL: Kernel = Kernel {
    name: "gelu_backward",
    source: include_str!("../../shaders/gelu_backward.wgsl"),
    parts: &[Part::Grid, Part::Gelu],
    bindings: &[Binding::stored("x"), Binding::stored("dy"), Binding::stored_mut("dx")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
}

/// `dy gelu'(x)`, of the shape and element type of `x`, the input of the forward pass.
///
/// # Errors
/// `Error::Shape` when the shapes differ.
pub fn launch(ctx: &Context, x: &Tensor, dy: &Tensor) -> Result<Tensor> {
    if x.dims() != dy.dims() {
        return Err(Error::shape("gelu_backward", x.shape(), dy.shape()));
    }
    let dx = Tensor::empty(ctx, x.dims(), x.dtype())?;
    let cells = x.shape().stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[x, dy, &dx])
        .params(&Params { cells: cells as u32 })
        .groups(cells.div_ceil(WORKGROUP))
        .flops(18.0 * x.shape().elements() as f64)
        .run(ctx)?;
    Ok(dx)
}

/// `gelu'(x) = (1 + tanh a)/2 + x/2 (1 - tanh^2 a) a'` with `a = sqrt(2/pi) (x + 0.044715 x^3)`, on the host.
#[must_use]
pub fn gelu_slope(x: f32) -> f32 {
    let x = f64::from(x);
    let scale = (2.0 / std::f64::consts::PI).sqrt();
    let tanh = (scale * (x + 0.044_715 * x.powi(3))).tanh();
    let slope = scale * (1.0 + 3.0 * 0.044_715 * x * x);
    (0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * slope) as f32
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let dx = t.f32(0).into_iter().zip(t.f32(1)).map(|(x, dy)| dy * gelu_slope(x)).collect();
    t.put_f32(2, dx);
    Ok(())
}

/// Shapes of the parity test, and the edges of the forward pass.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<_> = [vec![1], vec![3, 5], vec![2, 3, 4, 7], vec![257, 1023]]
        .into_iter()
        .map(|dims| {
            Case::new(format!("{dims:?}"), TOLERANCE, move |ctx, storage| {
                let x = samples::normal(ctx, &dims, storage, 1)?;
                let dy = samples::normal(ctx, &dims, storage, 2)?;
                Ok(vec![launch(ctx, &x, &dy)?])
            })
        })
        .collect();
    cases.push(Case::new("edges", TOLERANCE, |ctx, storage| {
        let x = Tensor::from_f32(ctx, &[EDGES.len()], &EDGES, storage)?;
        let dy = samples::normal(ctx, &[EDGES.len()], storage, 2)?;
        Ok(vec![launch(ctx, &x, &dy)?])
    }));
    cases
}

/// Mistakes the parity test must find.
pub const FAULTS: &[Fault] = &[
    Fault { find: "unpack4(dy[i]) * gelu_slope4(unpack4(x[i]))", replace: "gelu_slope4(unpack4(x[i]))" },
    Fault { find: "gelu_slope4(unpack4(x[i]))", replace: "gelu4(unpack4(x[i]))" },
];
