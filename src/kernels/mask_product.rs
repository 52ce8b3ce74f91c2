//! A mask over tokens joined with a mask over samples.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// Invocations per workgroup, as in the shader.
const WORKGROUP: usize = 64;

/// `y[b,n] = m[b,n] * present[b]`.
pub static KERNEL: Kernel = Kernel {
    name: "mask_product",
    source: include_str!("../../shaders/mask_product.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::f32("m"), Binding::f32("present"), Binding::f32_mut("y")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
    row_cells: u32,
}

/// `m (B, N)` and `present (B)` give `y (B, N)`, all F32.
///
/// # Errors
/// `Error::Shape` when the shapes do not fit together.
pub fn launch(ctx: &Context, m: &Tensor, present: &Tensor) -> Result<Tensor> {
    let &[rows, _] = m.dims() else {
        return Err(Error::shape("mask_product", "m (B, N)", m.shape()));
    };
    if present.dims() != [rows] {
        return Err(Error::shape("mask_product", format!("present ({rows})"), present.shape()));
    }
    let y = Tensor::empty(ctx, m.dims(), DType::F32)?;
    let cells = m.shape().stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[m, present, &y])
        .params(&Params { cells: cells as u32, row_cells: m.shape().cells() as u32 })
        .groups(cells.div_ceil(WORKGROUP))
        .flops(m.shape().elements() as f64)
        .run(ctx)?;
    Ok(y)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (mut y, present) = (t.f32(0), t.f32(1));
    for (row, present) in y.chunks_mut(4 * p.row_cells as usize).zip(present) {
        row.iter_mut().for_each(|v| *v *= present);
    }
    t.put_f32(2, y);
    Ok(())
}

/// Shapes of the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    [[1, 1], [5, 3], [6, 8], [129, 77]]
        .into_iter()
        .map(|[b, n]| {
            Case::new(format!("{b} x {n}"), Tolerance::exact(), move |ctx, _| {
                let m = samples::mask(ctx, &[b, n], 0.7, 1)?;
                let present = samples::mask(ctx, &[b], 0.5, 2)?;
                Ok(vec![launch(ctx, &m, &present)?])
            })
        })
        .collect()
}

/// Mistakes the parity test must find.
pub const FAULTS: &[Fault] = &[
    Fault { find: "present[i / p.row_cells]", replace: "present[i % p.row_cells]" },
    Fault { find: " * present[i / p.row_cells]", replace: "" },
];
