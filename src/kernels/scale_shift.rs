//! One vector per sample spread over N positions.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// Invocations per workgroup, as in the shader.
const WORKGROUP: usize = 256;

/// `t[b,n,:] = g[b,:] * scale[n,:] + shift[n,:]`.
pub static KERNEL: Kernel = Kernel {
    name: "scale_shift",
    source: include_str!("../../shaders/scale_shift.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("g"), Binding::stored("scale"), Binding::stored("shift"), Binding::stored_mut("t")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
    row_cells: u32,
    table_cells: u32,
}

/// `g (B, D)`, `scale (N, D)` and `shift (N, D)` give `t (B, N, D)` of the element type of `g`.
///
/// # Errors
/// `Error::Shape` when the shapes do not fit together.
pub fn launch(ctx: &Context, g: &Tensor, scale: &Tensor, shift: &Tensor) -> Result<Tensor> {
    let (&[samples, width], &[positions, scale_width]) = (g.dims(), scale.dims()) else {
        return Err(Error::shape(
            "scale_shift",
            "g (B, D) and scale (N, D)",
            format!("{}, {}", g.shape(), scale.shape()),
        ));
    };
    if width != scale_width || scale.dims() != shift.dims() {
        let got = format!("{}, {}", scale.shape(), shift.shape());
        return Err(Error::shape("scale_shift", format!("scale and shift (N, {width})"), got));
    }
    let t = Tensor::empty(ctx, &[samples, positions, width], g.dtype())?;
    let (cells, row_cells) = (t.shape().stored() / 4, g.shape().cells());
    Launch::new(&KERNEL)
        .tensors(&[g, scale, shift, &t])
        .params(&Params {
            cells: cells as u32,
            row_cells: row_cells as u32,
            table_cells: (positions * row_cells) as u32,
        })
        .groups(cells.div_ceil(WORKGROUP))
        .flops(2.0 * t.shape().elements() as f64)
        .run(ctx)?;
    Ok(t)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (g, scale, shift) = (t.f32(0), t.f32(1), t.f32(2));
    let mut tokens = Vec::with_capacity(4 * p.cells as usize);
    for sample in g.chunks(4 * p.row_cells as usize) {
        for (scale, shift) in scale.chunks(sample.len()).zip(shift.chunks(sample.len())) {
            tokens.extend(sample.iter().zip(scale).zip(shift).map(|((g, scale), shift)| g * scale + shift));
        }
    }
    t.put_f32(3, tokens);
    Ok(())
}

/// (B, N, D) of the parity tests of this kernel and of its gradients.
pub(crate) const SIZES: [[usize; 3]; 5] = [[1, 1, 1], [2, 3, 5], [3, 1, 7], [5, 13, 64], [4, 53, 129]];

/// Shapes of the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    SIZES
        .into_iter()
        .map(|[b, n, d]| {
            Case::new(format!("B {b} N {n} D {d}"), Tolerance::elementwise(), move |ctx, storage| {
                let g = samples::normal(ctx, &[b, d], storage, 1)?;
                let scale = samples::normal(ctx, &[n, d], storage, 2)?;
                let shift = samples::normal(ctx, &[n, d], storage, 3)?;
                Ok(vec![launch(ctx, &g, &scale, &shift)?])
            })
        })
        .collect()
}

/// Mistakes the parity test must find.
pub const FAULTS: &[Fault] = &[
    Fault { find: "let sample = i / p.table_cells;", replace: "let sample = i / p.table_cells * 0u;" },
    Fault { find: "unpack4(scale[j])", replace: "unpack4(scale[column])" },
    Fault { find: " + unpack4(shift[j])", replace: "" },
];
