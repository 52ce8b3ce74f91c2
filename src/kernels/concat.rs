//! Two matrices side by side.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// Invocations per workgroup, as in the shader.
const WORKGROUP: usize = 256;

/// `y[r,:] = (a[r,:], b[r,:])`.
pub static KERNEL: Kernel = Kernel {
    name: "concat",
    source: include_str!("../../shaders/concat.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("a"), Binding::stored("b"), Binding::stored_mut("y")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
    a_width: u32,
    b_width: u32,
    a_cells: u32,
    b_cells: u32,
    y_cells: u32,
}

/// `a (R, A)` and `b (R, C)` give `y (R, A + C)` of the element type of `a`.
///
/// # Errors
/// `Error::Shape` unless both have two axes and the same number of rows.
pub fn launch(ctx: &Context, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (&[rows, a_width], &[b_rows, b_width]) = (a.dims(), b.dims()) else {
        return Err(Error::shape("concat", "a (R, A) and b (R, C)", format!("{}, {}", a.shape(), b.shape())));
    };
    if rows != b_rows {
        return Err(Error::shape("concat", format!("b ({rows}, C)"), b.shape()));
    }
    let y = Tensor::empty(ctx, &[rows, a_width + b_width], a.dtype())?;
    let cells = y.shape().stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[a, b, &y])
        .params(&Params {
            cells: cells as u32,
            a_width: a_width as u32,
            b_width: b_width as u32,
            a_cells: a.shape().cells() as u32,
            b_cells: b.shape().cells() as u32,
            y_cells: y.shape().cells() as u32,
        })
        .groups(cells.div_ceil(WORKGROUP))
        .run(ctx)?;
    Ok(y)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (a, b) = (t.f32(0), t.f32(1));
    let mut y = Vec::with_capacity(4 * p.cells as usize);
    for (a, b) in a.chunks(4 * p.a_cells as usize).zip(b.chunks(4 * p.b_cells as usize)) {
        y.extend(&a[..p.a_width as usize]);
        y.extend(&b[..p.b_width as usize]);
        y.resize(y.len().next_multiple_of(4), 0.0);
    }
    t.put_f32(2, y);
    Ok(())
}

/// Shapes of the parity test: R, A, C.
#[must_use]
pub fn cases() -> Vec<Case> {
    [(1, 1, 1), (3, 5, 2), (2, 4, 7), (5, 3, 8), (7, 6, 6), (3, 64, 32), (129, 257, 131)]
        .into_iter()
        .map(|(rows, a, b)| {
            Case::new(format!("{rows} x ({a}, {b})"), Tolerance::exact(), move |ctx, storage| {
                let a = samples::normal(ctx, &[rows, a], storage, 1)?;
                let b = samples::normal(ctx, &[rows, b], storage, 2)?;
                Ok(vec![launch(ctx, &a, &b)?])
            })
        })
        .collect()
}

/// Mistakes the parity test must find.
pub const FAULTS: &[Fault] = &[
    Fault { find: "let j = column - p.a_width;", replace: "let j = column - 4u * p.a_cells;" },
    Fault { find: "if (column < p.a_width)", replace: "if (column <= p.a_width)" },
    Fault { find: "element(row, column + 2u)", replace: "element(row, column + 1u)" },
];
