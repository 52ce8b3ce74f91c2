//! Gradients of `scale_shift` for its scale and its shift.

use super::scale_shift::SIZES;
use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// Invocations per workgroup, as in the shader.
const WORKGROUP: usize = 64;

/// `dscale[n,:] = sum over b of dt[b,n,:] * g[b,:]`, `dshift[n,:] = sum over b of dt[b,n,:]`.
pub static KERNEL: Kernel = Kernel {
    name: "scale_shift_backward_params",
    source: include_str!("../../shaders/scale_shift_backward_params.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("dt"), Binding::stored("g"), Binding::f32_mut("dscale"), Binding::f32_mut("dshift")],
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

/// `dt (B, N, D)` and `g (B, D)` give `(dscale, dshift)`, both `(N, D)` in f32.
///
/// # Errors
/// `Error::Shape` when the shapes do not fit together.
pub fn launch(ctx: &Context, dt: &Tensor, g: &Tensor) -> Result<(Tensor, Tensor)> {
    let dims = [dt.dims().get(1).copied().unwrap_or(1), dt.shape().last()];
    let (dscale, dshift) = (Tensor::empty(ctx, &dims, DType::F32)?, Tensor::empty(ctx, &dims, DType::F32)?);
    launch_into(ctx, dt, g, (&dscale, &dshift), false)?;
    Ok((dscale, dshift))
}

/// [`launch`] into given memory, with `added` plus what stands there.
///
/// # Errors
/// As [`launch`].
pub fn launch_into(
    ctx: &Context,
    dt: &Tensor,
    g: &Tensor,
    (dscale, dshift): (&Tensor, &Tensor),
    added: bool,
) -> Result<()> {
    let &[samples, positions, width] = dt.dims() else {
        return Err(Error::shape("scale_shift_backward_params", "dt (B, N, D)", dt.shape()));
    };
    if g.dims() != [samples, width] {
        return Err(Error::shape("scale_shift_backward_params", format!("g ({samples}, {width})"), g.shape()));
    }
    if dscale.dims() != [positions, width] || dshift.dims() != [positions, width] {
        let expected = format!("dscale and dshift ({positions}, {width})");
        return Err(Error::shape("scale_shift_backward_params", expected, dscale.shape()));
    }
    let cells = dscale.shape().stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[dt, g, dscale, dshift])
        .params(&Params { cells: cells as u32, row_cells: dt.shape().cells() as u32, samples: samples as u32 })
        .constant("ADDED", f64::from(added))
        .groups(cells.div_ceil(WORKGROUP))
        .flops(3.0 * dt.shape().elements() as f64)
        .run(ctx)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (dt, g) = (t.f32(0), t.f32(1));
    let (table, stride) = (4 * p.cells as usize, 4 * p.row_cells as usize);
    for (output, of_scale) in [(2, true), (3, false)] {
        let mut sums = if t.flag("ADDED") { t.f32(output) } else { vec![0.0; table] };
        for (i, to) in sums.iter_mut().enumerate() {
            let factor = |b: usize| if of_scale { f64::from(g[b * stride + i % stride]) } else { 1.0 };
            let terms = (0..p.samples as usize).map(|b| f64::from(dt[b * table + i]) * factor(b));
            *to = (f64::from(*to) + terms.sum::<f64>()) as f32;
        }
        t.put_f32(output, sums);
    }
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
                let held = |seed| samples::normal(ctx, &[n, d], DType::F32, seed);
                let (held_scale, held_shift) = (held(3)?, held(4)?);
                let (dscale, dshift) = launch(ctx, &dt, &g)?;
                launch_into(ctx, &dt, &g, (&held_scale, &held_shift), true)?;
                Ok(vec![dscale, dshift, held_scale, held_shift])
            })
        })
        .collect()
}

/// Mistakes the parity test must find.
pub const FAULTS: &[Fault] = &[
    Fault { find: "d * unpack4(g[b * p.row_cells + column])", replace: "d" },
    Fault { find: "shift += floats(dshift[i]);", replace: "" },
    Fault { find: "g[b * p.row_cells + column]", replace: "g[column]" },
    Fault { find: "b < p.samples", replace: "b + 1u < p.samples" },
];
