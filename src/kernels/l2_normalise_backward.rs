//! Gradient of dividing rows by their length.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::l2_normalise::LEAST;
use crate::kernels::rows::{lanes, workgroups};
use crate::kernels::{Case, Fault, Tolerance, l2_normalise, samples};
use crate::tensor::Tensor;

/// `dx = (dy - u * sum(dy * u)) / norm` with `u = x / norm`; `dy / LEAST` where the norm is not above LEAST.
pub static KERNEL: Kernel = Kernel {
    name: "l2_normalise_backward",
    source: include_str!("../../shaders/l2_normalise_backward.wgsl"),
    parts: &[Part::Grid, Part::Rows, Part::Reduce],
    bindings: &[Binding::stored("dy"), Binding::stored("x"), Binding::f32("norm"), Binding::stored_mut("dx")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    cells: u32,
    least: f32,
}

/// Returns dx, shaped as x. `norm` (rows) F32 comes from [`l2_normalise::launch`].
///
/// # Errors
/// A shape error when dy is not shaped as x or norm does not fit its rows.
pub fn launch(ctx: &Context, dy: &Tensor, x: &Tensor, norm: &Tensor) -> Result<Tensor> {
    let shape = x.shape();
    let rows = shape.rows();
    if dy.dims() != x.dims() || norm.dims() != [rows] {
        return Err(Error::shape("l2_normalise_backward", format!("dy {shape} and {rows} norms"), dy.shape()));
    }
    let dx = Tensor::empty(ctx, x.dims(), x.dtype())?;
    let lanes = lanes(ctx, rows, shape.cells());
    Launch::new(&KERNEL)
        .tensors(&[dy, x, norm, &dx])
        .params(&Params { rows: rows as u32, cells: shape.cells() as u32, least: LEAST })
        .constant("ROW_LANES", lanes as f64)
        .groups(workgroups(rows, lanes))
        .flops(6.0 * shape.elements() as f64)
        .run(ctx)?;
    Ok(dx)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (dy, x, norm) = (t.f32(0), t.f32(1), t.f32(2));
    let stride = 4 * p.cells as usize;
    let mut dx = vec![0.0; x.len()];
    for (r, &size) in norm.iter().enumerate().take(p.rows as usize) {
        let range = r * stride..(r + 1) * stride;
        let (size, floored) = (f64::from(size), size <= p.least);
        let dot: f64 = range.clone().map(|i| f64::from(dy[i]) * f64::from(x[i])).sum();
        for i in range {
            let g = f64::from(dy[i]);
            dx[i] =
                if floored { g / f64::from(p.least) } else { g / size - f64::from(x[i]) * dot / size.powi(3) } as f32;
        }
    }
    t.put_f32(3, dx);
    Ok(())
}

/// Shapes for the parity test; the last one is of rows too short to be divided by their length, with a gradient small
/// enough for f16.
#[must_use]
pub fn cases() -> Vec<Case> {
    [(1, 2, true), (3, 5, true), (7, 64, true), (5, 257, true), (2, 1030, true), (70, 257, true), (3, 6, false)]
        .into_iter()
        .map(|(r, w, normal)| {
            let name = format!("{r}x{w}{}", if normal { "" } else { " of zeros" });
            Case::new(name, Tolerance::sum(w), move |ctx, storage| {
                let (x, dy) = if normal {
                    (samples::normal(ctx, &[r, w], storage, 1)?, samples::normal(ctx, &[r, w], storage, 2)?)
                } else {
                    let dy = Tensor::from_f32(ctx, &[r, w], &vec![2f32.powi(-12); r * w], storage)?;
                    (Tensor::zeros(ctx, &[r, w], storage)?, dy)
                };
                let (_, norm) = l2_normalise::launch(ctx, &x)?;
                Ok(vec![launch(ctx, &dy, &x, &norm)?])
            })
        })
        .collect()
}

/// Mistakes that the cases must notice.
pub const FAULTS: &[Fault] =
    &[Fault { find: " - u * along", replace: "" }, Fault { find: "- u * along) * scale", replace: "- u * along)" }];
