//! Some tokens of every sample, in a given order.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// Invocations per workgroup, as in the shader.
const WORKGROUP: usize = 256;

/// `y[b,k,:] = x[b, index[b,k], :]`.
pub static KERNEL: Kernel = Kernel {
    name: "gather_tokens",
    source: include_str!("../../shaders/gather_tokens.wgsl"),
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

/// `x (B, N, D)` and `index (B, K)` (U32) give `y (B, K, D)` of the element type of `x`. An index outside `0..N` gives a
/// row of zeros.
///
/// # Errors
/// `Error::Shape` when the shapes do not fit together.
pub fn launch(ctx: &Context, x: &Tensor, index: &Tensor) -> Result<Tensor> {
    let (&[samples, tokens, width], &[index_samples, picks]) = (x.dims(), index.dims()) else {
        let got = format!("{}, {}", x.shape(), index.shape());
        return Err(Error::shape("gather_tokens", "x (B, N, D) and index (B, K)", got));
    };
    if samples != index_samples {
        return Err(Error::shape("gather_tokens", format!("index ({samples}, K)"), index.shape()));
    }
    let y = Tensor::empty(ctx, &[samples, picks, width], x.dtype())?;
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
        .run(ctx)?;
    Ok(y)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (x, index) = (t.f32(0), t.u32(1));
    let (stride, tokens) = (4 * p.row_cells as usize, p.tokens as usize);
    let mut y = Vec::with_capacity(4 * p.cells as usize);
    for (sample, index) in x.chunks(tokens * stride).zip(index.chunks(p.index_stride as usize)) {
        for &n in &index[..p.picks as usize] {
            match sample.chunks(stride).nth(n as usize) {
                Some(row) => y.extend(row),
                None => y.resize(y.len() + stride, 0.0),
            }
        }
    }
    t.put_f32(2, y);
    Ok(())
}

/// Shapes of the parity test: B, N, K, D and the limit of the indices, which may lie beyond N.
#[must_use]
pub fn cases() -> Vec<Case> {
    [(1, 1, 1, 1, 1), (2, 5, 3, 7, 5), (3, 4, 9, 5, 4), (2, 7, 6, 64, 10), (4, 53, 27, 129, 53)]
        .into_iter()
        .map(|(b, n, k, d, limit)| {
            let name = format!("B {b} N {n} K {k} D {d} indices below {limit}");
            Case::new(name, Tolerance::exact(), move |ctx, storage| {
                let x = samples::normal(ctx, &[b, n, d], storage, 1)?;
                let index = samples::ids(ctx, &[b, k], limit, 2)?;
                Ok(vec![launch(ctx, &x, &index)?])
            })
        })
        .collect()
}

/// Mistakes the parity test must find.
pub const FAULTS: &[Fault] = &[
    Fault { find: "sample * p.index_stride + row % p.picks", replace: "row" },
    Fault { find: "sample * p.tokens + token", replace: "token" },
    Fault { find: "if (token >= p.tokens)", replace: "if (token > p.tokens + 9u)" },
];
