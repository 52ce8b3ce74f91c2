//! Attention heads side by side again.

use super::split_heads::SIZES;
use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// Invocations per workgroup, as in the shader.
const WORKGROUP: usize = 256;

/// `y[b,n, h d + j] = x[b,h,n,j]`.
pub static KERNEL: Kernel = Kernel {
    name: "merge_heads",
    source: include_str!("../../shaders/merge_heads.wgsl"),
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
    x_cells: u32,
    y_cells: u32,
}

/// `x (B, H, N, d)` gives `y (B, N, H d)` of the element type of `x`. Its gradient is `split_heads` with one part.
///
/// # Errors
/// `Error::Shape` unless `x` has four axes.
pub fn launch(ctx: &Context, x: &Tensor) -> Result<Tensor> {
    let &[samples, heads, tokens, width] = x.dims() else {
        return Err(Error::shape("merge_heads", "x (B, H, N, d)", x.shape()));
    };
    let y = Tensor::empty(ctx, &[samples, tokens, heads * width], x.dtype())?;
    let cells = y.shape().stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[x, &y])
        .params(&Params {
            cells: cells as u32,
            tokens: tokens as u32,
            heads: heads as u32,
            width: width as u32,
            x_cells: x.shape().cells() as u32,
            y_cells: y.shape().cells() as u32,
        })
        .groups(cells.div_ceil(WORKGROUP))
        .run(ctx)?;
    Ok(y)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (heads, tokens, width) = (p.heads as usize, p.tokens as usize, p.width as usize);
    let stride = 4 * p.x_cells as usize;
    let mut y = Vec::with_capacity(4 * p.cells as usize);
    for sample in t.f32(0).chunks(heads * tokens * stride) {
        for n in 0..tokens {
            for h in 0..heads {
                let first = (h * tokens + n) * stride;
                y.extend(&sample[first..first + width]);
            }
            y.resize(y.len().next_multiple_of(4), 0.0);
        }
    }
    t.put_f32(1, y);
    Ok(())
}

/// Shapes of the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    SIZES
        .into_iter()
        .map(|[b, n, h, d]| {
            Case::new(format!("B {b} N {n} H {h} d {d}"), Tolerance::exact(), move |ctx, storage| {
                Ok(vec![launch(ctx, &samples::normal(ctx, &[b, h, n, d], storage, 1)?)?])
            })
        })
        .collect()
}

/// Mistakes the parity test must find.
pub const FAULTS: &[Fault] = &[
    Fault { find: "(sample * p.heads + head) * p.tokens", replace: "(sample + head) * p.tokens" },
    Fault { find: "if (head >= p.heads)", replace: "if (head >= p.heads + 9u)" },
    Fault { find: "head_row(token, cell / p.x_cells)", replace: "head_row(token, 0u)" },
];
