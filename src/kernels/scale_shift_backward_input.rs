//! Gradient of `scale_shift` for its input.

use super::scale_shift::SIZES;
use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// Invocations per workgroup, as in the shader.
const WORKGROUP: usize = 64;

/// `dg[b,:] = sum over n of dt[b,n,:] * scale[n,:]`.
pub static KERNEL: Kernel = Kernel {
    name: "scale_shift_backward_input",
    source: include_str!("../../shaders/scale_shift_backward_input.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("dt"), Binding::stored("scale"), Binding::stored_mut("dg")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
    row_cells: u32,
    positions: u32,
}

/// `dt (B, N, D)` and `scale (N, D)` give `dg (B, D)` of the element type of `dt`.
///
/// # Errors
/// `Error::Shape` when the shapes do not fit together.
pub fn launch(ctx: &Context, dt: &Tensor, scale: &Tensor) -> Result<Tensor> {
    let &[samples, positions, width] = dt.dims() else {
        return Err(Error::shape("scale_shift_backward_input", "dt (B, N, D)", dt.shape()));
    };
    if scale.dims() != [positions, width] {
        let expected = format!("scale ({positions}, {width})");
        return Err(Error::shape("scale_shift_backward_input", expected, scale.shape()));
    }
    let dg = Tensor::empty(ctx, &[samples, width], dt.dtype())?;
    let cells = dg.shape().stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[dt, scale, &dg])
        .params(&Params { cells: cells as u32, row_cells: dt.shape().cells() as u32, positions: positions as u32 })
        .groups(cells.div_ceil(WORKGROUP))
        .flops(2.0 * dt.shape().elements() as f64)
        .run(ctx)?;
    Ok(dg)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (dt, scale) = (t.f32(0), t.f32(1));
    let (stride, positions) = (4 * p.row_cells as usize, p.positions as usize);
    let mut dg = Vec::with_capacity(4 * p.cells as usize);
    for sample in dt.chunks(positions * stride) {
        for d in 0..stride {
            let terms = (0..positions).map(|n| f64::from(sample[n * stride + d]) * f64::from(scale[n * stride + d]));
            dg.push(terms.sum::<f64>() as f32);
        }
    }
    t.put_f32(2, dg);
    Ok(())
}

/// Shapes of the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    SIZES
        .into_iter()
        .map(|[b, n, d]| {
            Case::new(format!("B {b} N {n} D {d}"), Tolerance::sum(n), move |ctx, storage| {
                let dt = samples::normal(ctx, &[b, n, d], storage, 1)?;
                let scale = samples::normal(ctx, &[n, d], storage, 2)?;
                Ok(vec![launch(ctx, &dt, &scale)?])
            })
        })
        .collect()
}

/// Mistakes the parity test must find.
pub const FAULTS: &[Fault] = &[
    Fault { find: "for (; n < p.positions; n += 1u)", replace: "for (; n < 0u; n += 1u)" },
    Fault { find: "(sum0 + sum1) + (sum2 + sum3)", replace: "(sum0 + sum1) + (sum2 + sum2)" },
    Fault { find: "unpack4(dt[first + l]) * unpack4(scale[column + l])", replace: "unpack4(dt[first + l])" },
];
