//! Rows of heads at another width.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// Invocations per workgroup, as in the shader.
const WORKGROUP: usize = 256;

/// `y[r, h b + j] = x[r, h a + j]` where `j < a`, else 0.
pub static KERNEL: Kernel = Kernel {
    name: "pad_heads",
    source: include_str!("../../shaders/pad_heads.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("x"), Binding::stored_mut("y")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
    x_width: u32,
    y_width: u32,
    width: u32,
    x_cells: u32,
    y_cells: u32,
}

/// `x (B, N, H from)` gives `y (B, N, H to)` of its element type: every head is followed by zeros, or loses its last channels.
/// The gradient of the one is the other.
///
/// # Errors
/// `Error::Shape` unless `x` has three axes and the last is made of heads of that width.
pub fn launch(ctx: &Context, x: &Tensor, from: usize, to: usize) -> Result<Tensor> {
    let wrong = || Error::shape("pad_heads", format!("x (B, N, H {from})"), x.shape());
    let &[samples, tokens, columns] = x.dims() else { return Err(wrong()) };
    if from == 0 || to == 0 || !columns.is_multiple_of(from) {
        return Err(wrong());
    }
    let y = Tensor::empty(ctx, &[samples, tokens, columns / from * to], x.dtype())?;
    let cells = y.shape().stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[x, &y])
        .params(&Params {
            cells: cells as u32,
            x_width: from as u32,
            y_width: to as u32,
            width: (columns / from * to) as u32,
            x_cells: x.shape().cells() as u32,
            y_cells: y.shape().cells() as u32,
        })
        .groups(cells.div_ceil(WORKGROUP))
        .run(ctx)?;
    Ok(y)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (from, to, width) = (p.x_width as usize, p.y_width as usize, p.width as usize);
    let mut y = Vec::with_capacity(4 * p.cells as usize);
    for row in t.f32(0).chunks(4 * p.x_cells as usize) {
        for head in row.chunks_exact(from).take(width / to) {
            y.extend(head.iter().copied().chain(std::iter::repeat(0.0)).take(to));
        }
        y.resize(y.len().next_multiple_of(4), 0.0);
    }
    t.put_f32(1, y);
    Ok(())
}

/// Shapes of the parity test: B, N, H, from, to; and back.
#[must_use]
pub fn cases() -> Vec<Case> {
    [[1, 1, 1, 1, 4], [2, 3, 2, 5, 8], [1, 7, 4, 3, 4], [2, 17, 9, 21, 24], [1, 130, 3, 6, 8]]
        .into_iter()
        .flat_map(|[b, n, h, from, to]| [[b, n, h, from, to], [b, n, h, to, from]])
        .map(|[b, n, h, from, to]| {
            Case::new(format!("{b}x{n}, {h} heads of {from} to {to}"), Tolerance::exact(), move |ctx, storage| {
                Ok(vec![launch(ctx, &samples::normal(ctx, &[b, n, h * from], storage, 1)?, from, to)?])
            })
        })
        .collect()
}

/// Mistakes the parity test must find.
pub const FAULTS: &[Fault] = &[
    Fault { find: "|| j >= p.x_width", replace: "" },
    Fault { find: "column >= p.width ||", replace: "" },
    Fault { find: "column / p.y_width * p.x_width", replace: "column / p.y_width * p.y_width" },
    Fault { find: "element(row, column + 3u)", replace: "element(row, column + 2u)" },
];
