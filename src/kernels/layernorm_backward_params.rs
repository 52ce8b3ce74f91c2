//! Gradients of layer normalisation with respect to weight and bias.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, column_sum, layernorm, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `dweight = sum over rows of dy * n`, `dbias = sum over rows of dy`, with `n = (x - mean) * rstd`; partial sums per chunk of rows.
pub static KERNEL: Kernel = Kernel {
    name: "layernorm_backward_params",
    source: include_str!("../../shaders/layernorm_backward_params.wgsl"),
    parts: &[Part::Grid],
    bindings: &[
        Binding::stored("dy"),
        Binding::stored("x"),
        Binding::f32("mean"),
        Binding::f32("rstd"),
        Binding::f32_mut("dweight"),
        Binding::f32_mut("dbias"),
    ],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    cells: u32,
    chunk_rows: u32,
    chunks: u32,
}

/// Returns `(dweight, dbias)`, both (width) F32. `mean` and `rstd` (rows) F32 come from [`layernorm::launch`].
///
/// # Errors
/// A shape error when dy is not shaped as x or the statistics do not fit it.
pub fn launch(ctx: &Context, dy: &Tensor, x: &Tensor, mean: &Tensor, rstd: &Tensor) -> Result<(Tensor, Tensor)> {
    let empty = || Tensor::empty(ctx, &[x.shape().last()], DType::F32);
    let (dweight, dbias) = (empty()?, empty()?);
    launch_into(ctx, dy, x, (mean, rstd), (&dweight, &dbias), false)?;
    Ok((dweight, dbias))
}

/// [`launch`] with the statistics `(mean, rstd)` into the given `(dweight, dbias)`; with `added` plus what stands there.
///
/// # Errors
/// As [`launch`].
pub fn launch_into(
    ctx: &Context,
    dy: &Tensor,
    x: &Tensor,
    (mean, rstd): (&Tensor, &Tensor),
    (dweight, dbias): (&Tensor, &Tensor),
    added: bool,
) -> Result<()> {
    let shape = x.shape();
    let rows = shape.rows();
    if dy.dims() != x.dims() || mean.dims() != [rows] || rstd.dims() != [rows] {
        return Err(Error::shape("layernorm_backward_params", format!("dy {shape} and {rows} statistics"), dy.shape()));
    }
    let (chunk_rows, chunks) = column_sum::chunks(ctx, rows, shape.cells());
    let partial = if chunks == 1 { None } else { Some(Tensor::empty(ctx, &[2 * chunks, shape.last()], DType::F32)?) };
    Launch::new(&KERNEL)
        .tensors(&[dy, x, mean, rstd, partial.as_ref().unwrap_or(dweight), dbias])
        .params(&Params {
            rows: rows as u32,
            cells: shape.cells() as u32,
            chunk_rows: chunk_rows as u32,
            chunks: chunks as u32,
        })
        .constant("ADDED", f64::from(added && chunks == 1))
        .constant("PARTIAL", f64::from(partial.is_some()))
        .groups((chunks * shape.cells()).div_ceil(64))
        .flops(5.0 * shape.elements() as f64)
        .run(ctx)?;
    match partial {
        Some(partial) => column_sum::launch_pair_into(ctx, &partial, (dweight, dbias), added),
        None => Ok(()),
    }
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (dy, x, mean, rstd) = (t.f32(0), t.f32(1), t.f32(2), t.f32(3));
    let stride = 4 * p.cells as usize;
    let held = t.flag("ADDED").then(|| (t.f32(4), t.f32(5)));
    let (mut dweight, mut dbias) = (Vec::new(), Vec::new());
    for chunk in 0..p.chunks as usize {
        let rows = (chunk * p.chunk_rows as usize)..((chunk + 1) * p.chunk_rows as usize).min(p.rows as usize);
        for c in 0..stride {
            let g = |r: usize| f64::from(dy[r * stride + c]);
            let n = |r: usize| (f64::from(x[r * stride + c]) - f64::from(mean[r])) * f64::from(rstd[r]);
            let (weight, bias) = held.as_ref().map_or((0.0, 0.0), |(w, b)| (f64::from(w[c]), f64::from(b[c])));
            dweight.push((weight + rows.clone().map(|r| g(r) * n(r)).sum::<f64>()) as f32);
            dbias.push((bias + rows.clone().map(g).sum::<f64>()) as f32);
        }
    }
    if t.flag("PARTIAL") {
        let chunks = dweight.chunks(stride).zip(dbias.chunks(stride));
        t.put_f32(4, chunks.flat_map(|(weights, biases)| [weights, biases].concat()).collect());
        return Ok(());
    }
    t.put_f32(4, dweight);
    t.put_f32(5, dbias);
    Ok(())
}

/// Shapes for the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    [(1, 2), (5, 3), (33, 64), (1031, 5), (7, 257)]
        .into_iter()
        .map(|(r, w)| {
            Case::new(format!("{r}x{w}"), Tolerance::sum(r), move |ctx, storage| {
                let x = samples::normal(ctx, &[r, w], storage, 1)?;
                let dy = samples::normal(ctx, &[r, w], storage, 2)?;
                let (_, mean, rstd) = layernorm::launch(ctx, &x, None)?;
                let (dweight, dbias) = launch(ctx, &dy, &x, &mean, &rstd)?;
                let held = (samples::normal(ctx, &[w], DType::F32, 3)?, samples::normal(ctx, &[w], DType::F32, 4)?);
                launch_into(ctx, &dy, &x, (&mean, &rstd), (&held.0, &held.1), true)?;
                Ok(vec![dweight, dbias, held.0, held.1])
            })
        })
        .collect()
}

/// Mistakes that the cases must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "- mean[row]) * rstd[row]", replace: "- mean[row])" },
    Fault { find: "min((chunk + 1u) * p.chunk_rows, p.rows)", replace: "min(p.chunk_rows, p.rows)" },
    Fault { find: "biases += a.biases;", replace: "biases = a.biases;" },
    Fault { find: "(c.weights + d.weights)", replace: "c.weights" },
    Fault { find: "biases += floats(dbias[index]);", replace: "" },
    Fault {
        find: "dweight[at + p.cells] = cell_of_floats(biases);",
        replace: "dweight[at + p.cells] = cell_of_floats(weights);",
    },
];
