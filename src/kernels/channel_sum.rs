//! Sum of images over everything but the channels: the bias gradient of a convolution.

use bytemuck::{Pod, Zeroable};

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, column_sum, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `sum[b parts + i, c] = sum over part i of the plane image[b,c]`.
pub static KERNEL: Kernel = Kernel {
    name: "channel_sum",
    source: include_str!("../../shaders/channel_sum.wgsl"),
    parts: &[Part::Grid, Part::Rows, Part::Reduce],
    bindings: &[Binding::stored("image"), Binding::f32_mut("sum")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    channels: u32,
    samples: u32,
    plane_cells: u32,
    parts: u32,
    part_cells: u32,
}

/// Cells of a plane that one workgroup adds: 16 for each invocation.
const PART: usize = 1024;

/// image (B, C, H, W) -> F32 (C).
///
/// # Errors
/// `Error::Shape` unless the image has four axes.
pub fn launch(ctx: &Context, image: &Tensor) -> Result<Tensor> {
    let sum = Tensor::empty(ctx, &[image.dims().get(1).copied().unwrap_or(1)], DType::F32)?;
    launch_into(ctx, image, &sum, false)?;
    Ok(sum)
}

/// [`launch`] into given memory, F32 (C); with `added` plus what stands there.
///
/// # Errors
/// As [`launch`]; `Error::Shape` when `to` has another length.
pub fn launch_into(ctx: &Context, image: &Tensor, to: &Tensor, added: bool) -> Result<()> {
    let &[samples, channels, height, _] = image.dims() else {
        return Err(Error::shape("channel_sum", "(B, C, H, W)", image.shape()));
    };
    let plane_cells = height * image.shape().cells();
    let parts = plane_cells.div_ceil(PART);
    let sum = Tensor::empty(ctx, &[samples * parts, channels], DType::F32)?;
    let params = Params {
        channels: channels as u32,
        samples: samples as u32,
        plane_cells: plane_cells as u32,
        parts: parts as u32,
        part_cells: plane_cells.div_ceil(parts) as u32,
    };
    Launch::new(&KERNEL)
        .tensors(&[image, &sum])
        .params(&params)
        .groups(samples * parts * channels.div_ceil(4))
        .flops(image.shape().elements() as f64)
        .run(ctx)?;
    column_sum::launch_into(ctx, &sum, 1, None, to, added)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (parts, width) = (p.parts as usize, p.channels.next_multiple_of(4) as usize);
    let mut sums = vec![0.0; p.samples as usize * parts * width];
    for (plane, values) in t.f32(0).chunks(4 * p.plane_cells as usize).enumerate() {
        let (b, c) = (plane / p.channels as usize, plane % p.channels as usize);
        for (part, values) in values.chunks(4 * p.part_cells as usize).enumerate() {
            sums[(b * parts + part) * width + c] = values.iter().map(|x| f64::from(*x)).sum::<f64>() as f32;
        }
    }
    t.put_f32(1, sums);
    Ok(())
}

/// Planes smaller and larger than a workgroup, and of more than one part.
#[must_use]
pub fn cases() -> Vec<Case> {
    [(1, 1, 1, 1), (2, 3, 5, 7), (3, 5, 17, 30), (1, 9, 40, 9), (2, 3, 70, 68)]
        .into_iter()
        .map(|(b, c, h, w)| {
            Case::new(format!("{b}x{c}x{h}x{w}"), Tolerance::sum(b * h * w), move |ctx, dtype| {
                Ok(vec![launch(ctx, &samples::normal(ctx, &[b, c, h, w], dtype, 1)?)?])
            })
        })
        .collect()
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "(b * p.channels + c)", replace: "(b + c)" },
    Fault { find: "part * p.part_cells + lid", replace: "lid" },
    Fault { find: "total.z + total.w", replace: "total.z" },
    Fault { find: "if (c >= p.channels) { return 0.0; }", replace: "" },
];
