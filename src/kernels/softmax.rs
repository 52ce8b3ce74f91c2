//! Softmax of rows.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::Result;
use crate::kernels::rows::{held, lanes, workgroups};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// `y = exp(x - max(x)) / sum(exp(x - max(x)))` over the last axis.
pub static KERNEL: Kernel = Kernel {
    name: "softmax",
    source: include_str!("../../shaders/softmax.wgsl"),
    parts: &[Part::Grid, Part::Rows, Part::Reduce],
    bindings: &[Binding::stored("x"), Binding::stored_mut("y")],
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

/// Returns y, shaped as x.
///
/// # Errors
/// Whatever the device reports.
pub fn launch(ctx: &Context, x: &Tensor) -> Result<Tensor> {
    let shape = x.shape();
    let y = Tensor::empty(ctx, x.dims(), x.dtype())?;
    let lanes = lanes(ctx, shape.rows(), shape.cells());
    Launch::new(&KERNEL)
        .tensors(&[x, &y])
        .params(&Params { rows: shape.rows() as u32, width: shape.last() as u32, cells: shape.cells() as u32 })
        .constant("ROW_LANES", lanes as f64)
        .constant("HELD", f64::from(held(shape.cells(), lanes)))
        .groups(workgroups(shape.rows(), lanes))
        .flops(8.0 * shape.elements() as f64)
        .run(ctx)?;
    Ok(y)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let x = t.f32(0);
    let (width, stride) = (p.width as usize, 4 * p.cells as usize);
    let mut y = vec![0.0; x.len()];
    for (from, to) in x.chunks_exact(stride).zip(y.chunks_exact_mut(stride)).take(p.rows as usize) {
        let highest = from[..width].iter().copied().fold(f32::MIN, f32::max);
        let weight = |v: f32| (f64::from(v) - f64::from(highest)).exp();
        let sum: f64 = from[..width].iter().map(|&v| weight(v)).sum();
        from[..width].iter().zip(to).for_each(|(&v, y)| *y = (weight(v) / sum) as f32);
    }
    t.put_f32(1, y);
    Ok(())
}

/// (rows, width, factor on normal draws) for the parity test; a large factor would overflow without the maximum.
#[must_use]
pub fn cases() -> Vec<Case> {
    [(1, 1, 1.0), (3, 5, 1.0), (7, 64, 60.0), (5, 257, 1.0), (2, 1031, 200.0), (70, 257, 3.0)]
        .into_iter()
        .map(|(r, w, factor)| {
            Case::new(format!("{r}x{w} times {factor}"), Tolerance::sum(w), move |ctx, storage| {
                let values = samples::normal(ctx, &[r, w], storage, 1)?.to_f32()?;
                let values: Vec<f32> = values.into_iter().map(|v| factor * v).collect();
                Ok(vec![launch(ctx, &Tensor::from_f32(ctx, &[r, w], &values, storage)?)?])
            })
        })
        .collect()
}

/// Mistakes that the cases must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "sum * exp(top - higher) + ", replace: "sum + " },
    Fault { find: "exp(held.b - highest) * scale", replace: "exp(held.b) * scale" },
    Fault { find: "select(vec4<f32>(LOWEST), x, in_row(c, p.width))", replace: "x" },
    Fault { find: "if has_fourth(ROW_LANES, p.cells)", replace: "if false" },
    Fault { find: "if !HELD {", replace: "if HELD {" },
];
