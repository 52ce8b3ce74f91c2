//! Gradient of softmax.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::rows::{held, lanes, workgroups};
use crate::kernels::{Case, Fault, Tolerance, samples, softmax};
use crate::tensor::Tensor;

/// `dx = y * (dy - sum(dy * y))` over the last axis.
pub static KERNEL: Kernel = Kernel {
    name: "softmax_backward",
    source: include_str!("../../shaders/softmax_backward.wgsl"),
    parts: &[Part::Grid, Part::Rows, Part::Reduce],
    bindings: &[Binding::stored("dy"), Binding::stored("y"), Binding::stored_mut("dx")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    cells: u32,
}

/// Returns dx, shaped as y, which comes from [`softmax::launch`].
///
/// # Errors
/// A shape error when dy is not shaped as y.
pub fn launch(ctx: &Context, dy: &Tensor, y: &Tensor) -> Result<Tensor> {
    let shape = y.shape();
    if dy.dims() != y.dims() {
        return Err(Error::shape("softmax_backward", shape, dy.shape()));
    }
    let dx = Tensor::empty(ctx, y.dims(), y.dtype())?;
    let lanes = lanes(ctx, shape.rows(), shape.cells());
    Launch::new(&KERNEL)
        .tensors(&[dy, y, &dx])
        .params(&Params { rows: shape.rows() as u32, cells: shape.cells() as u32 })
        .constant("ROW_LANES", lanes as f64)
        .constant("HELD", f64::from(held(shape.cells(), lanes)))
        .groups(workgroups(shape.rows(), lanes))
        .flops(4.0 * shape.elements() as f64)
        .run(ctx)?;
    Ok(dx)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (dy, y) = (t.f32(0), t.f32(1));
    let stride = 4 * p.cells as usize;
    let mut dx = Vec::with_capacity(y.len());
    for (dy, y) in dy.chunks_exact(stride).zip(y.chunks_exact(stride)).take(p.rows as usize) {
        let along: f64 = dy.iter().zip(y).map(|(g, y)| f64::from(*g) * f64::from(*y)).sum();
        dx.extend(dy.iter().zip(y).map(|(g, y)| (f64::from(*y) * (f64::from(*g) - along)) as f32));
    }
    t.put_f32(2, dx);
    Ok(())
}

/// Shapes for the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    [(1, 2), (3, 5), (7, 64), (5, 257), (2, 1031), (70, 257)]
        .into_iter()
        .map(|(r, w)| {
            Case::new(format!("{r}x{w}"), Tolerance::sum(w), move |ctx, storage| {
                let y = softmax::launch(ctx, &samples::normal(ctx, &[r, w], storage, 1)?)?;
                Ok(vec![launch(ctx, &samples::normal(ctx, &[r, w], storage, 2)?, &y)?])
            })
        })
        .collect()
}

/// Mistakes that the cases must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: " - along)", replace: ")" },
    Fault { find: "reduce_sum(lid, add4(products))", replace: "add4(products)" },
    Fault { find: "if !HELD {", replace: "if HELD {" },
    Fault { find: "live.y * unpack4(y[i.y])", replace: "unpack4(y[i.y])" },
];
