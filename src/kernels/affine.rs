//! One straight line for every element.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::Result;
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// Invocations per workgroup, as in the shader.
const WORKGROUP: usize = 256;

/// `y = scale x + shift`.
pub static KERNEL: Kernel = Kernel {
    name: "affine",
    source: include_str!("../../shaders/affine.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("x"), Binding::stored_mut("y")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
    row_cells: u32,
    width: u32,
    scale: f32,
    shift: f32,
}

/// `scale x + shift` for every element of `x`; the result has the shape and element type of `x`.
///
/// # Errors
/// What the device reports.
pub fn launch(ctx: &Context, x: &Tensor, scale: f32, shift: f32) -> Result<Tensor> {
    let y = Tensor::empty(ctx, x.dims(), x.dtype())?;
    let shape = x.shape();
    let cells = shape.stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[x, &y])
        .params(&Params {
            cells: cells as u32,
            row_cells: shape.cells() as u32,
            width: shape.last() as u32,
            scale,
            shift,
        })
        .groups(cells.div_ceil(WORKGROUP))
        .flops(2.0 * shape.elements() as f64)
        .run(ctx)?;
    Ok(y)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (stride, width) = (4 * p.row_cells as usize, p.width as usize);
    let mut y = t.f32(0);
    for row in y.chunks_mut(stride) {
        for v in &mut row[..width] {
            *v = p.scale * *v + p.shift;
        }
    }
    t.put_f32(1, y);
    Ok(())
}

/// Shapes of the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    [(vec![1], 2.0, -1.0), (vec![3, 5], -0.5, 3.0), (vec![2, 3, 4, 7], 0.0, 1.5), (vec![257, 1023], 2.0, -1.0)]
        .into_iter()
        .map(|(dims, scale, shift)| {
            Case::new(format!("{dims:?} {scale} x + {shift}"), Tolerance::elementwise(), move |ctx, storage| {
                let x = samples::normal(ctx, &dims, storage, 1)?;
                Ok(vec![launch(ctx, &x, scale, shift)?])
            })
        })
        .collect()
}

/// Mistakes the parity test must find.
pub const FAULTS: &[Fault] = &[
    Fault { find: "select(vec4<f32>(0.0), line, column < vec4<u32>(p.width))", replace: "line" },
    Fault { find: "p.scale * unpack4(x[i]) + p.shift", replace: "p.scale * unpack4(x[i])" },
];
