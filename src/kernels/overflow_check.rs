//! Counts what is not a number: for tests, and for finding where a NaN began.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::Result;
use crate::kernels::{Case, Fault, Tolerance};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `found = how many elements of x are infinite or NaN`.
pub static KERNEL: Kernel = Kernel {
    name: "overflow_check",
    source: include_str!("../../shaders/overflow_check.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("x"), Binding::u32_mut("found")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
}

/// Counts the infinite and NaN elements of `x` (any shape, f32 or f16), without waiting for the device. Returns `found` ()
/// u32.
///
/// # Errors
/// [`crate::Error::Kernel`] when `x` holds integers.
pub fn launch(ctx: &Context, x: &Tensor) -> Result<Tensor> {
    let found = Tensor::empty(ctx, &[], DType::U32)?;
    Launch::new(&KERNEL)
        .tensors(&[x, &found])
        .params(&Params { cells: (x.shape().stored() / 4) as u32 })
        .groups(1)
        .run(ctx)?;
    Ok(found)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let count = t.f32(0).iter().filter(|v| !v.is_finite()).count();
    t.put_u32(1, &[count as u32, 0, 0, 0]);
    Ok(())
}

/// `elements` numbers of both signs and all sizes; every `every`-th is infinite or NaN, in turn. `every` 0: none is.
fn mixture(elements: usize, every: usize) -> Vec<f32> {
    let bad = [f32::INFINITY, f32::NAN, f32::NEG_INFINITY];
    let good = [0.0, -1.5, f32::MAX, 6e-8, -65504.0];
    let value = |i: usize| match i.checked_rem(every) {
        Some(0) => bad[i / every % bad.len()],
        _ => good[i % good.len()],
    };
    (0..elements).map(value).collect()
}

/// None, one, all; around the workgroup's stretch of 1024 elements; rows with padding.
pub fn cases() -> Vec<Case> {
    [(&[][..], 1), (&[1], 0), (&[5], 5), (&[3, 7], 4), (&[1023], 0), (&[2, 1031], 3), (&[9, 1000], 1)]
        .into_iter()
        .map(|(dims, every)| {
            Case::new(format!("{dims:?} every {every}"), Tolerance::exact(), move |ctx, storage| {
                let values = mixture(dims.iter().product(), every);
                Ok(vec![launch(ctx, &Tensor::from_f32(ctx, dims, &values, storage)?)?])
            })
        })
        .collect()
}

/// Wrong texts that a case must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "vec4<u32>(0x7f800000u)", replace: "vec4<u32>(0x7f000000u)" },
    Fault { find: "cell += WORKGROUP", replace: "cell += 2u * WORKGROUP" },
    Fault { find: "hits.z + hits.w", replace: "hits.z" },
];
