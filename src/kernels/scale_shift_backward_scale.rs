//! Gradient of `scale_shift` for its scale.

use super::scale_shift::SIZES;
use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// Invocations per workgroup, as in the shader.
const WORKGROUP: usize = 64;

/// `dscale[n,:] = sum over b of dt[b,n,:] * g[b,:]`.
pub static KERNEL: Kernel = Kernel {
    name: "scale_shift_backward_scale",
    source: include_str!("../../shaders/scale_shift_backward_scale.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("dt"), Binding::stored("g"), Binding::f32_mut("dscale")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
    row_cells: u32,
    samples: u32,
}

/// `dt (B, N, D)` and `g (B, D)` give `dscale (N, D)` in f32.
///
/// # Errors
/// `Error::Shape` when the shapes do not fit together.
pub fn launch(ctx: &Context, dt: &Tensor, g: &Tensor) -> Result<Tensor> {
    let &[samples, positions, width] = dt.dims() else {
        return Err(Error::shape("scale_shift_backward_scale", "dt (B, N, D)", dt.shape()));
    };
    if g.dims() != [samples, width] {
        return Err(Error::shape("scale_shift_backward_scale", format!("g ({samples}, {width})"), g.shape()));
    }
    let dscale = Tensor::empty(ctx, &[positions, width], DType::F32)?;
    let cells = dscale.shape().stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[dt, g, &dscale])
        .params(&Params { cells: cells as u32, row_cells: dt.shape().cells() as u32, samples: samples as u32 })
        .groups(cells.div_ceil(WORKGROUP))
        .flops(2.0 * dt.shape().elements() as f64)
        .run(ctx)?;
    Ok(dscale)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (dt, g) = (t.f32(0), t.f32(1));
    let (table, stride) = (4 * p.cells as usize, 4 * p.row_cells as usize);
    let dscale = (0..table).map(|i| {
        let terms =
            (0..p.samples as usize).map(|b| f64::from(dt[b * table + i]) * f64::from(g[b * stride + i % stride]));
        terms.sum::<f64>() as f32
    });
    let dscale = dscale.collect();
    t.put_f32(2, dscale);
    Ok(())
}

/// Shapes of the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    SIZES
        .into_iter()
        .map(|[b, n, d]| {
            Case::new(format!("B {b} N {n} D {d}"), Tolerance::sum(b), move |ctx, storage| {
                let dt = samples::normal(ctx, &[b, n, d], storage, 1)?;
                let g = samples::normal(ctx, &[b, d], storage, 2)?;
                Ok(vec![launch(ctx, &dt, &g)?])
            })
        })
        .collect()
}

/// Mistakes the parity test must find.
pub const FAULTS: &[Fault] = &[
    Fault {
        find: "unpack4(dt[b * p.cells + i]) * unpack4(g[b * p.row_cells + column])",
        replace: "unpack4(dt[b * p.cells + i])",
    },
    Fault { find: "g[b * p.row_cells + column]", replace: "g[column]" },
    Fault { find: "b < p.samples", replace: "b + 1u < p.samples" },
];
