//! The same values in another storage.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// Invocations per workgroup, as in the shader.
const WORKGROUP: usize = 256;

/// `y = x`, f32 to f16 or f16 to f32.
pub static KERNEL: Kernel = Kernel {
    name: "cast",
    source: include_str!("../../shaders/cast.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("x"), Binding::output_mut("y")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
}

/// `x` (F32 or F16) as `dtype` (F32 or F16), of the same shape; rounded to nearest.
///
/// # Errors
/// What the device reports; `Error::Kernel` for element types that are not floats.
pub fn launch(ctx: &Context, x: &Tensor, dtype: DType) -> Result<Tensor> {
    let y = Tensor::empty(ctx, x.dims(), dtype)?;
    into(ctx, x, &y)?;
    Ok(y)
}

/// Like [`launch`], into a tensor of the same shape that exists already: working weights after an update.
///
/// # Errors
/// `Error::Shape` when the shapes differ.
pub fn into(ctx: &Context, x: &Tensor, y: &Tensor) -> Result<()> {
    if x.dims() != y.dims() {
        return Err(Error::shape("cast", x.shape(), y.shape()));
    }
    let cells = x.shape().stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[x, y])
        .params(&Params { cells: cells as u32 })
        .groups(cells.div_ceil(WORKGROUP))
        .run(ctx)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let y = t.f32(0);
    t.put_f32(1, y);
    Ok(())
}

/// Shapes of the parity test, each to both storages. How a device rounds to half is its own choice.
#[must_use]
pub fn cases() -> Vec<Case> {
    let nearest_half = Tolerance { abs: 1e-7, rel: 1.0 / 1024.0 };
    [vec![1], vec![3, 5], vec![2, 3, 4, 7], vec![257, 1023]]
        .into_iter()
        .flat_map(|dims| [(dims.clone(), DType::F32, Tolerance::exact()), (dims, DType::F16, nearest_half)])
        .map(|(dims, dtype, tolerance)| {
            Case::new(format!("{dims:?} to {dtype}"), tolerance, move |ctx, storage| {
                let x = samples::normal(ctx, &dims, storage, 1)?;
                Ok(vec![launch(ctx, &x, dtype)?])
            })
        })
        .collect()
}

/// Mistakes the parity test must find.
pub const FAULTS: &[Fault] = &[
    Fault { find: "pack_output4(unpack4(x[i]))", replace: "pack_output4(unpack4(x[i]).yxzw)" },
    Fault { find: "if (i >= p.cells)", replace: "if (i + 1u >= p.cells)" },
];
