//! Some neighbouring columns of a matrix: the gradient of `concat`.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// Invocations per workgroup, as in the shader.
const WORKGROUP: usize = 256;

/// `y[r,j] = x[r, start + j]`.
pub static KERNEL: Kernel = Kernel {
    name: "columns",
    source: include_str!("../../shaders/columns.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("x"), Binding::stored_mut("y")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
    x_cells: u32,
    y_cells: u32,
    width: u32,
    start: u32,
}

/// The `width` columns of `x (R, W)` from `start` on: `(R, width)`, of the element type of `x`.
///
/// # Errors
/// `Error::Shape` unless `x` has two axes and those columns.
pub fn launch(ctx: &Context, x: &Tensor, start: usize, width: usize) -> Result<Tensor> {
    let &[rows, x_width] = x.dims() else {
        return Err(Error::shape("columns", "x (R, W)", x.shape()));
    };
    if start.saturating_add(width) > x_width {
        return Err(Error::shape("columns", format!("columns within 0..{x_width}"), format!("{start} + {width}")));
    }
    let y = Tensor::empty(ctx, &[rows, width], x.dtype())?;
    let cells = y.shape().stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[x, &y])
        .params(&Params {
            cells: cells as u32,
            x_cells: x.shape().cells() as u32,
            y_cells: y.shape().cells() as u32,
            width: width as u32,
            start: start as u32,
        })
        .groups(cells.div_ceil(WORKGROUP))
        .run(ctx)?;
    Ok(y)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (start, width) = (p.start as usize, p.width as usize);
    let mut y = Vec::with_capacity(4 * p.cells as usize);
    for row in t.f32(0).chunks(4 * p.x_cells as usize) {
        y.extend(&row[start..start + width]);
        y.resize(y.len().next_multiple_of(4), 0.0);
    }
    t.put_f32(1, y);
    Ok(())
}

/// Shapes of the parity test: R, W, start, K.
#[must_use]
pub fn cases() -> Vec<Case> {
    [(1, 1, 0, 1), (3, 7, 0, 5), (3, 7, 5, 2), (2, 9, 3, 4), (5, 12, 6, 6), (129, 388, 257, 131)]
        .into_iter()
        .map(|(rows, width, start, picked)| {
            let name = format!("{rows} x {width}, {picked} from {start}");
            Case::new(name, Tolerance::exact(), move |ctx, storage| {
                let x = samples::normal(ctx, &[rows, width], storage, 1)?;
                Ok(vec![launch(ctx, &x, start, picked)?])
            })
        })
        .collect()
}

/// Mistakes the parity test must find.
pub const FAULTS: &[Fault] = &[
    Fault { find: "p.start + column", replace: "p.start / 4u * 4u + column" },
    Fault { find: "if (column >= p.width)", replace: "if (column >= p.width + 4u)" },
];
