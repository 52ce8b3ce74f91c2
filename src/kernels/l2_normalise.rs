//! Rows divided by their length.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::Result;
use crate::kernels::rows::{lanes, workgroups};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `y = x / max(norm, LEAST)`, `norm = sqrt(sum(x^2))`.
pub static KERNEL: Kernel = Kernel {
    name: "l2_normalise",
    source: include_str!("../../shaders/l2_normalise.wgsl"),
    parts: &[Part::Grid, Part::Rows, Part::Reduce],
    bindings: &[Binding::stored("x"), Binding::stored_mut("y"), Binding::f32_mut("norm")],
    epilogues: false,
    twin,
};

/// The smallest divisor, as in the model's specification.
pub const LEAST: f32 = 1e-6;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    cells: u32,
    least: f32,
}

/// Returns `(y, norm)`: y as x, norm (rows) F32 for the backward kernel.
///
/// # Errors
/// Whatever the device reports.
pub fn launch(ctx: &Context, x: &Tensor) -> Result<(Tensor, Tensor)> {
    let shape = x.shape();
    let rows = shape.rows();
    let y = Tensor::empty(ctx, x.dims(), x.dtype())?;
    let norm = Tensor::empty(ctx, &[rows], DType::F32)?;
    let lanes = lanes(ctx, rows, shape.cells());
    Launch::new(&KERNEL)
        .tensors(&[x, &y, &norm])
        .params(&Params { rows: rows as u32, cells: shape.cells() as u32, least: LEAST })
        .constant("ROW_LANES", lanes as f64)
        .groups(workgroups(rows, lanes))
        .flops(3.0 * shape.elements() as f64)
        .run(ctx)?;
    Ok((y, norm))
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let x = t.f32(0);
    let stride = 4 * p.cells as usize;
    let mut y = Vec::with_capacity(x.len());
    let mut norm = Vec::with_capacity(p.rows as usize + 3);
    for row in x.chunks_exact(stride).take(p.rows as usize) {
        let size = row.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        y.extend(row.iter().map(|&v| (f64::from(v) / size.max(f64::from(p.least))) as f32));
        norm.push(size as f32);
    }
    norm.resize(norm.len().next_multiple_of(4), 0.0);
    t.put_f32(1, y);
    t.put_f32(2, norm);
    Ok(())
}

/// Shapes for the parity test; the last one is all zeros.
#[must_use]
pub fn cases() -> Vec<Case> {
    [(1, 1, true), (3, 5, true), (7, 64, true), (5, 257, true), (2, 1030, true), (70, 257, true), (3, 6, false)]
        .into_iter()
        .map(|(r, w, normal)| {
            let name = format!("{r}x{w}{}", if normal { "" } else { " of zeros" });
            Case::new(name, Tolerance::sum(w), move |ctx, storage| {
                let x = if normal {
                    samples::normal(ctx, &[r, w], storage, 1)
                } else {
                    Tensor::zeros(ctx, &[r, w], storage)
                }?;
                let (y, norm) = launch(ctx, &x)?;
                Ok(vec![y, norm])
            })
        })
        .collect()
}

/// Mistakes that the cases must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "max(size, p.least)", replace: "size" },
    Fault { find: "sqrt(reduce_sum(lid, add4(squares)))", replace: "reduce_sum(lid, add4(squares))" },
];
