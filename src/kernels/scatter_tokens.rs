//! Tokens put back where `gather_tokens` took them from: its gradient.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// Invocations per workgroup, as in the shader.
const WORKGROUP: usize = 256;

/// `y[b,n,:] = sum over k with index[b,k] = n of x[b,k,:]`.
pub static KERNEL: Kernel = Kernel {
    name: "scatter_tokens",
    source: include_str!("../../shaders/scatter_tokens.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("x"), Binding::u32("index"), Binding::stored_mut("y")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
    row_cells: u32,
    tokens: u32,
    picks: u32,
    index_stride: u32,
}

/// `x (B, K, D)` and `index (B, K)` (U32) give `y (B, tokens, D)` of the element type of `x`: zero where no index points,
/// the sum in order where several do. Indices outside `0..tokens` are left out.
///
/// # Errors
/// `Error::Shape` when the shapes do not fit together.
pub fn launch(ctx: &Context, x: &Tensor, index: &Tensor, tokens: usize) -> Result<Tensor> {
    let &[samples, picks, width] = x.dims() else {
        return Err(Error::shape("scatter_tokens", "x (B, K, D)", x.shape()));
    };
    if index.dims() != [samples, picks] {
        return Err(Error::shape("scatter_tokens", format!("index ({samples}, {picks})"), index.shape()));
    }
    let y = Tensor::empty(ctx, &[samples, tokens, width], x.dtype())?;
    let cells = y.shape().stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[x, index, &y])
        .params(&Params {
            cells: cells as u32,
            row_cells: x.shape().cells() as u32,
            tokens: tokens as u32,
            picks: picks as u32,
            index_stride: index.shape().stride() as u32,
        })
        .groups(cells.div_ceil(WORKGROUP))
        .flops(x.shape().elements() as f64)
        .run(ctx)?;
    Ok(y)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (x, index) = (t.f32(0), t.u32(1));
    let (stride, picks, tokens) = (4 * p.row_cells as usize, p.picks as usize, p.tokens as usize);
    let mut y = vec![0.0; 4 * p.cells as usize];
    for ((y, x), index) in
        y.chunks_mut(tokens * stride).zip(x.chunks(picks * stride)).zip(index.chunks(p.index_stride as usize))
    {
        for (row, &n) in x.chunks(stride).zip(index) {
            if let Some(target) = y.chunks_mut(stride).nth(n as usize) {
                target.iter_mut().zip(row).for_each(|(y, x)| *y += x);
            }
        }
    }
    t.put_f32(2, y);
    Ok(())
}

/// Shapes of the parity test: B, K, N, D and the limit of the indices, which may lie beyond N. With K above N some repeat.
#[must_use]
pub fn cases() -> Vec<Case> {
    [(1, 1, 1, 1, 1), (2, 3, 5, 7, 5), (3, 9, 4, 5, 4), (2, 6, 7, 64, 10), (4, 27, 53, 129, 53)]
        .into_iter()
        .map(|(b, k, n, d, limit)| {
            let name = format!("B {b} K {k} N {n} D {d} indices below {limit}");
            Case::new(name, Tolerance::sum(k), move |ctx, storage| {
                let x = samples::normal(ctx, &[b, k, d], storage, 1)?;
                let index = samples::ids(ctx, &[b, k], limit, 2)?;
                Ok(vec![launch(ctx, &x, &index, n)?])
            })
        })
        .collect()
}

/// Mistakes the parity test must find.
pub const FAULTS: &[Fault] = &[
    Fault { find: "sum += unpack4", replace: "sum = unpack4" },
    Fault { find: "index[sample * p.index_stride + k]", replace: "index[sample * p.picks + k]" },
    Fault { find: "k < p.picks", replace: "k + 1u < p.picks" },
];
