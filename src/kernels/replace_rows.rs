//! Masked rows become one learned vector.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// Invocations per workgroup, as in the shader.
const WORKGROUP: usize = 256;

/// `y[r,:] = token where mask(r) is not 0, else x[r,:]`.
pub static KERNEL: Kernel = Kernel {
    name: "replace_rows",
    source: include_str!("../../shaders/replace_rows.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("x"), Binding::f32("mask"), Binding::stored("token"), Binding::stored_mut("y")],
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

/// `x` with one row per element of `mask` (F32, 0 or 1): `(B, N, D)` with `(B, N)`, or `(B, D)` with `(B)`; `token (D)`.
/// The result has the shape and element type of `x`.
///
/// # Errors
/// `Error::Shape` when the mask has not one element per row or the token not the width of `x`.
pub fn launch(ctx: &Context, x: &Tensor, mask: &Tensor, token: &Tensor) -> Result<Tensor> {
    let (shape, flags) = (x.shape(), mask.shape());
    if flags.elements() != shape.rows() {
        return Err(Error::shape("replace_rows", format!("a mask of {} rows", shape.rows()), flags));
    }
    if token.dims() != [shape.last()] {
        return Err(Error::shape("replace_rows", format!("a token ({})", shape.last()), token.shape()));
    }
    let y = Tensor::empty(ctx, x.dims(), x.dtype())?;
    let cells = shape.stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[x, mask, token, &y])
        .params(&Params {
            cells: cells as u32,
            row_cells: shape.cells() as u32,
            mask_width: flags.last() as u32,
            mask_stride: flags.stride() as u32,
        })
        .groups(cells.div_ceil(WORKGROUP))
        .run(ctx)?;
    Ok(y)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (mut y, mask, token) = (t.f32(0), t.f32(1), t.f32(2));
    let flags = mask.chunks(p.mask_stride as usize).flat_map(|row| &row[..p.mask_width as usize]);
    for (row, flag) in y.chunks_mut(4 * p.row_cells as usize).zip(flags) {
        if *flag != 0.0 {
            row.copy_from_slice(&token);
        }
    }
    t.put_f32(3, y);
    Ok(())
}

/// Rows and mask of the parity tests of this kernel and of its gradient: dims of the mask, width.
pub(crate) const SIZES: [(&[usize], usize); 5] = [(&[1], 1), (&[5], 7), (&[2, 3], 5), (&[3, 8], 64), (&[5, 53], 129)];

/// Shapes of the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    SIZES
        .into_iter()
        .map(|(rows, width)| {
            Case::new(format!("{rows:?} x {width}"), Tolerance::exact(), move |ctx, storage| {
                let x = samples::normal(ctx, &[rows, &[width]].concat(), storage, 1)?;
                let mask = samples::mask(ctx, rows, 0.5, 2)?;
                let token = samples::normal(ctx, &[width], storage, 3)?;
                Ok(vec![launch(ctx, &x, &mask, &token)?])
            })
        })
        .collect()
}

/// Mistakes the parity test must find.
pub const FAULTS: &[Fault] = &[
    Fault { find: "row / p.mask_width * p.mask_stride + row % p.mask_width", replace: "row" },
    Fault { find: "!= 0.0", replace: "== 0.0" },
    Fault { find: "token[i % p.row_cells]", replace: "token[0]" },
];
