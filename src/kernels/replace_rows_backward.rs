//! Gradient of `replace_rows` for its input.

use super::replace_rows::SIZES;
use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// Invocations per workgroup, as in the shader.
const WORKGROUP: usize = 256;

/// `dx[r,:] = 0 where mask(r) is not 0, else dy[r,:]`.
pub static KERNEL: Kernel = Kernel {
    name: "replace_rows_backward",
    source: include_str!("../../shaders/replace_rows_backward.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("dy"), Binding::f32("mask"), Binding::stored_mut("dx")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
    row_cells: u32,
    mask_width: u32,
    mask_stride: u32,
}

/// `dy` with one row per element of `mask` (F32, 0 or 1): `(B, N, D)` with `(B, N)`, or `(B, D)` with `(B)`. The result has
/// the shape and element type of `dy`.
///
/// # Errors
/// `Error::Shape` when the mask has not one element per row.
pub fn launch(ctx: &Context, dy: &Tensor, mask: &Tensor) -> Result<Tensor> {
    let (shape, flags) = (dy.shape(), mask.shape());
    if flags.elements() != shape.rows() {
        return Err(Error::shape("replace_rows_backward", format!("a mask of {} rows", shape.rows()), flags));
    }
    let dx = Tensor::empty(ctx, dy.dims(), dy.dtype())?;
    let cells = shape.stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[dy, mask, &dx])
        .params(&Params {
            cells: cells as u32,
            row_cells: shape.cells() as u32,
            mask_width: flags.last() as u32,
            mask_stride: flags.stride() as u32,
        })
        .groups(cells.div_ceil(WORKGROUP))
        .run(ctx)?;
    Ok(dx)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (mut dx, mask) = (t.f32(0), t.f32(1));
    let flags = mask.chunks(p.mask_stride as usize).flat_map(|row| &row[..p.mask_width as usize]);
    for (row, flag) in dx.chunks_mut(4 * p.row_cells as usize).zip(flags) {
        if *flag != 0.0 {
            row.fill(0.0);
        }
    }
    t.put_f32(2, dx);
    Ok(())
}

/// Shapes of the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    SIZES
        .into_iter()
        .map(|(rows, width)| {
            Case::new(format!("{rows:?} x {width}"), Tolerance::exact(), move |ctx, storage| {
                let dy = samples::normal(ctx, &[rows, &[width]].concat(), storage, 1)?;
                let mask = samples::mask(ctx, rows, 0.5, 2)?;
                Ok(vec![launch(ctx, &dy, &mask)?])
            })
        })
        .collect()
}

/// Mistakes the parity test must find.
pub const FAULTS: &[Fault] = &[
    Fault { find: "row / p.mask_width * p.mask_stride + row % p.mask_width", replace: "row" },
    Fault { find: "dx[i] = pack4(vec4<f32>(0.0))", replace: "dx[i] = dy[i]" },
];
