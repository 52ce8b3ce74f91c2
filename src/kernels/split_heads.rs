//! The columns of a token cut into attention heads.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// Invocations per workgroup, as in the shader.
const WORKGROUP: usize = 256;

/// `y[b,h,n,j] = x[b,n, (part H + h) d + j]`.
pub static KERNEL: Kernel = Kernel {
    name: "split_heads",
    source: include_str!("../../shaders/split_heads.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("x"), Binding::stored_mut("y")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
    tokens: u32,
    heads: u32,
    width: u32,
    part: u32,
    x_cells: u32,
    y_cells: u32,
}

/// Part `part` of the `parts` that lie side by side in `x (B, N, parts * heads * d)`, as `(B, heads, N, d)` of the element
/// type of `x`. Queries, keys and values are parts 0, 1 and 2 of 3.
///
/// # Errors
/// `Error::Shape` unless `x` has three axes and its last splits into `parts * heads`, with `part` among them.
pub fn launch(ctx: &Context, x: &Tensor, heads: usize, parts: usize, part: usize) -> Result<Tensor> {
    let split = parts * heads;
    let &[samples, tokens, columns] = x.dims() else {
        return Err(Error::shape("split_heads", format!("x (B, N, {split} d)"), x.shape()));
    };
    if split == 0 || !columns.is_multiple_of(split) || part >= parts {
        let expected = format!("x (B, N, {parts} parts x {heads} heads x d)");
        return Err(Error::shape("split_heads", expected, format!("{}, part {part}", x.shape())));
    }
    let y = Tensor::empty(ctx, &[samples, heads, tokens, columns / split], x.dtype())?;
    let cells = y.shape().stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[x, &y])
        .params(&Params {
            cells: cells as u32,
            tokens: tokens as u32,
            heads: heads as u32,
            width: (columns / split) as u32,
            part: part as u32,
            x_cells: x.shape().cells() as u32,
            y_cells: y.shape().cells() as u32,
        })
        .groups(cells.div_ceil(WORKGROUP))
        .run(ctx)?;
    Ok(y)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (heads, width) = (p.heads as usize, p.width as usize);
    let (x_stride, y_stride) = (4 * p.x_cells as usize, 4 * p.y_cells as usize);
    let mut y = Vec::with_capacity(4 * p.cells as usize);
    for sample in t.f32(0).chunks(p.tokens as usize * x_stride) {
        for h in 0..heads {
            let start = (p.part as usize * heads + h) * width;
            for token in sample.chunks(x_stride) {
                y.extend(&token[start..start + width]);
                y.resize(y.len() + y_stride - width, 0.0);
            }
        }
    }
    t.put_f32(1, y);
    Ok(())
}

/// B, N, H, d of the parity tests of this kernel and of those that put heads together.
pub(crate) const SIZES: [[usize; 4]; 6] =
    [[1, 1, 1, 1], [2, 3, 2, 5], [2, 5, 3, 8], [1, 7, 4, 3], [3, 53, 4, 16], [2, 17, 3, 21]];

/// Shapes of the parity test: every part of 3, and the only part of 1.
#[must_use]
pub fn cases() -> Vec<Case> {
    SIZES
        .into_iter()
        .map(|[b, n, h, d]| {
            Case::new(format!("B {b} N {n} H {h} d {d}"), Tolerance::exact(), move |ctx, storage| {
                let qkv = samples::normal(ctx, &[b, n, 3 * h * d], storage, 1)?;
                let one = samples::normal(ctx, &[b, n, h * d], storage, 2)?;
                let mut parts = (0..3).map(|part| launch(ctx, &qkv, h, 3, part)).collect::<Result<Vec<_>>>()?;
                parts.push(launch(ctx, &one, h, 1, 0)?);
                Ok(parts)
            })
        })
        .collect()
}

/// Mistakes the parity test must find.
pub const FAULTS: &[Fault] = &[
    Fault { find: "(p.part * p.heads + head) * p.width", replace: "head * p.width" },
    Fault { find: "start / 4u + cell", replace: "start / 4u" },
    Fault { find: "y_row / p.tokens % p.heads", replace: "y_row % p.heads" },
    Fault { find: "if (j >= p.width)", replace: "if (j >= p.width + 4u)" },
];
