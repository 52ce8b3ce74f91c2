//! Sum of the products of two tensors.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, row_sum, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `y = sum of a * b`, per chunk of cells.
pub static KERNEL: Kernel = Kernel {
    name: "dot",
    source: include_str!("../../shaders/dot.wgsl"),
    parts: &[Part::Grid, Part::Rows, Part::Reduce],
    bindings: &[Binding::stored("a"), Binding::stored("b"), Binding::f32_mut("y")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
    chunk: u32,
    chunks: u32,
}

/// Returns the sum over all elements of `a * b`, () F32. Both are of one shape and storage.
///
/// # Errors
/// A shape error when they differ.
pub fn launch(ctx: &Context, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.dims() != b.dims() {
        return Err(Error::shape("dot", a.shape(), b.shape()));
    }
    let cells = a.shape().stored() / 4;
    let chunk = chunk(cells);
    let chunks = cells.div_ceil(chunk);
    let y = Tensor::empty(ctx, &[chunks], DType::F32)?;
    Launch::new(&KERNEL)
        .tensors(&[a, b, &y])
        .params(&Params { cells: cells as u32, chunk: chunk as u32, chunks: chunks as u32 })
        .groups(chunks)
        .flops(2.0 * a.shape().elements() as f64)
        .run(ctx)?;
    let total = if chunks == 1 { y } else { row_sum::launch(ctx, &y)? };
    total.reshape(&[])
}

/// Cells per workgroup: 16 for each of its 64 invocations, more where there would be over 1024 workgroups.
fn chunk(cells: usize) -> usize {
    const WORTH: usize = 16 * 64;
    const MOST: usize = 1024;
    WORTH.max(cells.div_ceil(MOST))
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (a, b) = (t.f32(0), t.f32(1));
    let size = 4 * p.chunk as usize;
    let sum =
        |(a, b): (&[f32], &[f32])| a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum::<f64>() as f32;
    let mut y: Vec<f32> = a.chunks(size).zip(b.chunks(size)).map(sum).collect();
    y.resize(y.len().next_multiple_of(4), 0.0);
    t.put_f32(2, y);
    Ok(())
}

/// Shapes for the parity test; the last ones take two launches.
#[must_use]
pub fn cases() -> Vec<Case> {
    [&[1][..], &[3, 5], &[7, 65], &[33, 257], &[9, 4099]]
        .into_iter()
        .map(|dims| {
            let length = dims.iter().product();
            Case::new(format!("{dims:?}"), Tolerance::sum(length), move |ctx, storage| {
                let (a, b) = (samples::normal(ctx, dims, storage, 1)?, samples::normal(ctx, dims, storage, 2)?);
                Ok(vec![launch(ctx, &a, &b)?])
            })
        })
        .collect()
}

/// Mistakes that the cases must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "unpack4(a[c]) * unpack4(b[c])", replace: "unpack4(a[c])" },
    Fault { find: "part * p.chunk + lid", replace: "lid" },
    Fault { find: "select(0.0, total, lid == 0u)", replace: "total" },
];
