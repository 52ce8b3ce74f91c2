//! Gradient of layer normalisation with respect to its input.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::masks::unread;
use crate::kernels::rows::{held, lanes, workgroups};
use crate::kernels::{Case, Fault, Tolerance, layernorm, samples};
use crate::tensor::Tensor;

/// `dx = rstd * (g - mean(g) - n * mean(g * n)) + before` with `n = (x - mean) * rstd` and `g = dy * weight`.
pub static KERNEL: Kernel = Kernel {
    name: "layernorm_backward",
    source: include_str!("../../shaders/layernorm_backward.wgsl"),
    parts: &[Part::Grid, Part::Rows, Part::Reduce],
    bindings: &[
        Binding::stored("dy"),
        Binding::stored("x"),
        Binding::stored("weight"),
        Binding::f32("mean"),
        Binding::f32("rstd"),
        Binding::stored("before"),
        Binding::stored_mut("dx"),
    ],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    width: u32,
    cells: u32,
}

/// Returns dx, shaped as x. `mean` and `rstd` (rows) F32 come from [`layernorm::launch`]; `weight` (width) as it was there.
/// `before`, shaped as x, is added: what x has received from other users.
///
/// # Errors
/// A shape error when dy or `before` is not shaped as x, or weight or the statistics do not fit it.
pub fn launch(
    ctx: &Context,
    dy: &Tensor,
    x: &Tensor,
    weight: Option<&Tensor>,
    mean: &Tensor,
    rstd: &Tensor,
    before: Option<&Tensor>,
) -> Result<Tensor> {
    let shape = x.shape();
    let rows = shape.rows();
    if dy.dims() != x.dims() || mean.dims() != [rows] || rstd.dims() != [rows] {
        return Err(Error::shape("layernorm_backward", format!("dy {shape} and {rows} statistics"), dy.shape()));
    }
    if let Some(before) = before.filter(|before| before.dims() != x.dims()) {
        return Err(Error::shape("layernorm_backward", format!("before {shape}"), before.shape()));
    }
    if weight.is_some_and(|w| w.dims() != [shape.last()]) {
        return Err(Error::shape("layernorm_backward", format!("weight of {}", shape.last()), "another length"));
    }
    let absent = unread(x)?;
    let dx = Tensor::empty(ctx, x.dims(), x.dtype())?;
    let lanes = lanes(ctx, rows, shape.cells());
    Launch::new(&KERNEL)
        .tensors(&[dy, x, weight.unwrap_or(&absent), mean, rstd, before.unwrap_or(&absent), &dx])
        .params(&Params { rows: rows as u32, width: shape.last() as u32, cells: shape.cells() as u32 })
        .constant("AFFINE", if weight.is_some() { 1.0 } else { 0.0 })
        .constant("ADDED", if before.is_some() { 1.0 } else { 0.0 })
        .constant("ROW_LANES", lanes as f64)
        .constant("HELD", f64::from(held(shape.cells(), lanes)))
        .groups(workgroups(rows, lanes))
        .flops(14.0 * shape.elements() as f64)
        .run(ctx)?;
    Ok(dx)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (dy, x, weight, mean, rstd) = (t.f32(0), t.f32(1), t.f32(2), t.f32(3), t.f32(4));
    let (affine, before) = (t.flag("AFFINE"), t.flag("ADDED").then(|| t.f32(5)));
    let (width, stride) = (p.width as usize, 4 * p.cells as usize);
    let mut dx = vec![0.0; x.len()];
    for r in 0..p.rows as usize {
        let (average, scale) = (f64::from(mean[r]), f64::from(rstd[r]));
        let n = |c: usize| (f64::from(x[r * stride + c]) - average) * scale;
        let g = |c: usize| f64::from(dy[r * stride + c]) * if affine { f64::from(weight[c]) } else { 1.0 };
        let mean_g = (0..width).map(g).sum::<f64>() / width as f64;
        let mean_gn = (0..width).map(|c| g(c) * n(c)).sum::<f64>() / width as f64;
        for c in 0..width {
            let sum = before.as_ref().map_or(0.0, |before| f64::from(before[r * stride + c]));
            dx[r * stride + c] = (scale * (g(c) - mean_g - n(c) * mean_gn) + sum) as f32;
        }
    }
    t.put_f32(6, dx);
    Ok(())
}

/// Shapes for the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    [(1, 2, true), (3, 5, true), (7, 64, false), (5, 257, true), (2, 1030, false), (70, 257, true)]
        .into_iter()
        .map(|(r, w, affine)| {
            Case::new(format!("{r}x{w} affine {affine}"), Tolerance::sum(w), move |ctx, storage| {
                let x = samples::normal(ctx, &[r, w], storage, 1)?;
                let weight = samples::normal(ctx, &[w], storage, 2)?;
                let dy = samples::normal(ctx, &[r, w], storage, 3)?;
                let (_, mean, rstd) = layernorm::launch(ctx, &x, None)?;
                let before = samples::normal(ctx, &[r, w], storage, 4)?;
                let added = (r % 2 == 1).then_some(&before);
                Ok(vec![launch(ctx, &dy, &x, affine.then_some(&weight), &mean, &rstd, added)?])
            })
        })
        .collect()
}

/// Mistakes that the cases must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: " - n.b * means.y", replace: "" },
    Fault { find: "g.a - means.x", replace: "g.a" },
    Fault { find: "return g * unpack4(weight[c]);", replace: "return g;" },
    Fault { find: "unpack4(before[i.x])", replace: "unpack4(before[i.y])" },
    Fault { find: "        if HELD {\n            added = load_before(start, c);\n        }\n", replace: "" },
    Fault { find: " * means.y) + added.c", replace: " * means.y)" },
    Fault { find: "live.w * weighted", replace: "weighted" },
    Fault { find: "if !HELD {", replace: "if HELD {" },
    Fault { find: "if has_fourth(ROW_LANES, p.cells)", replace: "if false" },
    Fault { find: "pack4(without_padding(c, p.width, v))", replace: "pack4(v)" },
];
