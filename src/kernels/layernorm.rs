//! Layer normalisation of rows, with or without weight and bias.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::masks::unread;
use crate::kernels::rows::{held, lanes, workgroups};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `y = (x - mean) * rstd * weight + bias` over the last axis, biased variance, `rstd = 1 / sqrt(variance + EPSILON)`.
pub static KERNEL: Kernel = Kernel {
    name: "layernorm",
    source: include_str!("../../shaders/layernorm.wgsl"),
    parts: &[Part::Grid, Part::Rows, Part::Reduce],
    bindings: &[
        Binding::stored("x"),
        Binding::stored("weight"),
        Binding::stored("bias"),
        Binding::stored_mut("y"),
        Binding::f32_mut("mean"),
        Binding::f32_mut("rstd"),
    ],
    epilogues: false,
    twin,
};

/// Added to the variance, as in the model's specification.
pub const EPSILON: f32 = 1e-5;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    width: u32,
    cells: u32,
    epsilon: f32,
}

/// Returns `(y, mean, rstd)`: y as x, mean and rstd (rows) F32 for the backward kernels. `affine` is (weight, bias), both
/// (width) in x's storage; without it y is the normalised row.
///
/// # Errors
/// A shape error when weight or bias is not one row of x; whatever the device reports.
pub fn launch(ctx: &Context, x: &Tensor, affine: Option<(&Tensor, &Tensor)>) -> Result<(Tensor, Tensor, Tensor)> {
    let shape = x.shape();
    let (weight, bias) = match affine {
        Some((weight, bias)) => (weight.clone(), bias.clone()),
        None => (unread(x)?, unread(x)?),
    };
    if affine.is_some() && [&weight, &bias].iter().any(|t| t.dims() != [shape.last()]) {
        return Err(Error::shape("layernorm", format!("weight and bias of {}", shape.last()), weight.shape()));
    }
    let rows = shape.rows();
    let y = Tensor::empty(ctx, x.dims(), x.dtype())?;
    let mean = Tensor::empty(ctx, &[rows], DType::F32)?;
    let rstd = Tensor::empty(ctx, &[rows], DType::F32)?;
    let lanes = lanes(ctx, rows, shape.cells());
    Launch::new(&KERNEL)
        .tensors(&[x, &weight, &bias, &y, &mean, &rstd])
        .params(&Params {
            rows: rows as u32,
            width: shape.last() as u32,
            cells: shape.cells() as u32,
            epsilon: EPSILON,
        })
        .constant("AFFINE", if affine.is_some() { 1.0 } else { 0.0 })
        .constant("ROW_LANES", lanes as f64)
        .constant("HELD", f64::from(held(shape.cells(), lanes)))
        .groups(workgroups(rows, lanes))
        .flops(8.0 * shape.elements() as f64)
        .run(ctx)?;
    Ok((y, mean, rstd))
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (x, weight, bias) = (t.f32(0), t.f32(1), t.f32(2));
    let affine = t.flag("AFFINE");
    let (width, stride) = (p.width as usize, 4 * p.cells as usize);
    let mut y = vec![0.0; x.len()];
    let mut mean = vec![0.0; (p.rows as usize).next_multiple_of(4)];
    let mut rstd = mean.clone();
    for (r, row) in x.chunks_exact(stride).take(p.rows as usize).enumerate() {
        let row = &row[..width];
        let average = row.iter().map(|&v| f64::from(v)).sum::<f64>() / width as f64;
        let variance = row.iter().map(|&v| (f64::from(v) - average).powi(2)).sum::<f64>() / width as f64;
        let scale = 1.0 / (variance + f64::from(p.epsilon)).sqrt();
        for (c, &v) in row.iter().enumerate() {
            let n = (f64::from(v) - average) * scale;
            y[r * stride + c] = if affine { n * f64::from(weight[c]) + f64::from(bias[c]) } else { n } as f32;
        }
        mean[r] = average as f32;
        rstd[r] = scale as f32;
    }
    t.put_f32(3, y);
    t.put_f32(4, mean);
    t.put_f32(5, rstd);
    Ok(())
}

/// Shapes for the parity test: one element, primes, whole and broken cells, more rows than one grid dimension holds.
#[must_use]
pub fn cases() -> Vec<Case> {
    [
        (1, 1, true),
        (3, 5, true),
        (7, 64, false),
        (5, 257, true),
        (3, 512, true),
        (2, 768, true),
        (4, 1030, false),
        (70, 257, true),
        (66_000, 3, true),
    ]
    .into_iter()
    .map(|(r, w, affine)| {
        Case::new(format!("{r}x{w} affine {affine}"), Tolerance::sum(w), move |ctx, storage| {
            let x = samples::normal(ctx, &[r, w], storage, 1)?;
            let weight = samples::normal(ctx, &[w], storage, 2)?;
            let bias = samples::normal(ctx, &[w], storage, 3)?;
            let (y, mean, rstd) = launch(ctx, &x, affine.then_some((&weight, &bias)))?;
            Ok(vec![y, mean, rstd])
        })
    })
    .collect()
}

/// Mistakes that the cases must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "variance + p.epsilon", replace: "variance" },
    Fault { find: "if has_fourth(ROW_LANES, p.cells) {\n            s =", replace: "if false {\n            s =" },
    Fault { find: "n.a * w.a + b.a", replace: "n.a * w.a" },
    Fault { find: "unpack4(weight[i.z])", replace: "unpack4(weight[i.x])" },
    Fault { find: "v * live - shift * live", replace: "v - shift" },
    Fault { find: "if !HELD {", replace: "if HELD {" },
    Fault { find: "pack4(without_padding(c, p.width, v))", replace: "pack4(v)" },
    Fault { find: "without_padding(c, p.width, v * live - shift * live)", replace: "v * live - shift * live" },
    Fault { find: "4u * p.cells - p.width, lane ==", replace: "0u, lane ==" },
    Fault { find: "if HELD || c >= p.cells {", replace: "if c >= 0u {" },
    Fault { find: "lane == (p.cells - 1u) % ROW_LANES", replace: "lane == 0u" },
];
