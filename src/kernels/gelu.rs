//! GELU in its tanh form.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::Result;
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// Invocations per workgroup, as in the shader.
const WORKGROUP: usize = 256;

/// `y = x/2 (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
pub static KERNEL: Kernel = Kernel {
    name: "gelu",
    source: include_str!("../../shaders/gelu.wgsl"),
    parts: &[Part::Grid, Part::Gelu],
    bindings: &[Binding::stored("x"), Binding::stored_mut("y")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
}

/// `gelu(x)`, of the shape and element type of `x` (Hendrycks and Gimpel, 2016, tanh form).
///
/// # Errors
/// What the device reports.
pub fn launch(ctx: &Context, x: &Tensor) -> Result<Tensor> {
    let y = Tensor::empty(ctx, x.dims(), x.dtype())?;
    let cells = x.shape().stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[x, &y])
        .params(&Params { cells: cells as u32 })
        .groups(cells.div_ceil(WORKGROUP))
        .flops(10.0 * x.shape().elements() as f64)
        .run(ctx)?;
    Ok(y)
}

/// The formula on the host, for the twins of every kernel with a GELU in it.
#[must_use]
pub fn gelu(x: f32) -> f32 {
    let x = f64::from(x);
    let a = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
    (0.5 * x * (1.0 + a.tanh())) as f32
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let y = t.f32(0).into_iter().map(gelu).collect();
    t.put_f32(1, y);
    Ok(())
}

/// WGSL allows an exponential of x an error of 3 + 2 |x| units in the last place: 25 at the largest draws.
pub(crate) const TOLERANCE: Tolerance = Tolerance { abs: 2e-6, rel: 1e-5 };

/// Values where a careless form overflows, cancels or loses its sign.
pub(crate) const EDGES: [f32; 15] =
    [0.0, -0.0, 1e-6, -1e-6, 0.751, -0.751, 3.0, -3.0, 5.5, -5.5, 8.0, -8.0, 100.0, -100.0, -60000.0];

/// Shapes of the parity test, and the edges.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut cases: Vec<_> = [vec![1], vec![3, 5], vec![2, 3, 4, 7], vec![257, 1023]]
        .into_iter()
        .map(|dims| {
            Case::new(format!("{dims:?}"), TOLERANCE, move |ctx, storage| {
                Ok(vec![launch(ctx, &samples::normal(ctx, &dims, storage, 1)?)?])
            })
        })
        .collect();
    cases.push(Case::new("edges", TOLERANCE, |ctx, storage| {
        Ok(vec![launch(ctx, &Tensor::from_f32(ctx, &[EDGES.len()], &EDGES, storage)?)?])
    }));
    cases
}

/// Mistakes the parity test must find.
pub const FAULTS: &[Fault] = &[
    Fault { find: "gelu4(unpack4(x[i]))", replace: "gelu_slope4(unpack4(x[i]))" },
    Fault { find: "gelu4(unpack4(x[i]))", replace: "max(unpack4(x[i]), vec4<f32>(0.0))" },
];
