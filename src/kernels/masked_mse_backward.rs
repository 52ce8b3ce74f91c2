//! Gradient of the masked mean squared error.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::masked_mse::{Keep, SHAPES};
use crate::kernels::masks::Groups;
use crate::kernels::rows::lanes;
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `dprediction = upstream * inverse * 2 * keep[r] * (prediction - target)`.
pub static KERNEL: Kernel = Kernel {
    name: "masked_mse_backward",
    source: include_str!("../../shaders/masked_mse_backward.wgsl"),
    parts: &[Part::Grid],
    bindings: &[
        Binding::f32("upstream"),
        Binding::f32("inverse"),
        Binding::stored("prediction"),
        Binding::stored("truth"),
        Binding::f32("row_mask"),
        Binding::f32("sample_mask"),
        Binding::stored_mut("dprediction"),
    ],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    cells: u32,
    group: u32,
    group_stride: u32,
    sample_rows: u32,
}

/// Returns the gradient of the prediction, shaped and stored as it. `upstream` () F32 is the gradient of the loss,
/// `inverse` () F32 comes from [`masked_mse::launch`](crate::kernels::masked_mse::launch).
///
/// # Errors
/// A shape error when prediction and target differ or a mask does not fit the rows.
pub fn launch(
    ctx: &Context,
    upstream: &Tensor,
    inverse: &Tensor,
    prediction: &Tensor,
    target: &Tensor,
    keep: Keep<'_>,
) -> Result<Tensor> {
    let shape = prediction.shape();
    if target.dims() != prediction.dims() {
        return Err(Error::shape("masked_mse_backward", format!("target {shape}"), target.shape()));
    }
    let rows = shape.rows();
    let (places, sample_rows) = keep.layout("masked_mse_backward", rows)?;
    let (no_rows, no_samples) = (Tensor::empty(ctx, &[1], DType::F32)?, Tensor::empty(ctx, &[1], DType::F32)?);
    let (row_mask, sample_mask) = (keep.rows.unwrap_or(&no_rows), keep.samples.unwrap_or(&no_samples));
    let lanes = lanes(ctx, rows, shape.cells());
    let dprediction = Tensor::empty(ctx, prediction.dims(), prediction.dtype())?;
    let launch = Launch::new(&KERNEL)
        .tensors(&[upstream, inverse, prediction, target, row_mask, sample_mask, &dprediction])
        .params(&Params {
            rows: rows as u32,
            cells: shape.cells() as u32,
            group: places.group,
            group_stride: places.stride,
            sample_rows,
        })
        .constant("ROW_LANES", lanes as f64)
        .groups(rows.div_ceil(64 / lanes))
        .flops(4.0 * shape.elements() as f64);
    keep.flags().into_iter().fold(launch, |launch, (name, value)| launch.constant(name, value)).run(ctx)?;
    Ok(dprediction)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let scale = 2.0 * f64::from(t.f32(0)[0]) * f64::from(t.f32(1)[0]);
    let (prediction, truth, row_mask, sample_mask) = (t.f32(2), t.f32(3), t.f32(4), t.f32(5));
    let (by_row, by_sample) = (t.flag("ROW_MASK"), t.flag("SAMPLE_MASK"));
    let places = Groups { group: p.group, stride: p.group_stride };
    let stride = 4 * p.cells as usize;
    let mut gradient = vec![0.0; prediction.len()];
    for r in 0..p.rows as usize {
        let kept_row = if by_row { f64::from(row_mask[places.at(r)]) } else { 1.0 };
        let keep = kept_row * if by_sample { f64::from(sample_mask[r / p.sample_rows as usize]) } else { 1.0 };
        if keep == 0.0 {
            continue;
        }
        for i in r * stride..(r + 1) * stride {
            gradient[i] = (scale * keep * (f64::from(prediction[i]) - f64::from(truth[i]))) as f32;
        }
    }
    t.put_f32(6, gradient);
    Ok(())
}

/// Shapes for the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    SHAPES
        .into_iter()
        .map(|(b, n, c, by_row, by_sample)| {
            let name = format!("{b}x{n}x{c} row mask {by_row} sample mask {by_sample}");
            Case::new(name, Tolerance::elementwise(), move |ctx, storage| {
                let upstream = samples::uniform(ctx, &[], DType::F32, 1)?;
                let inverse = samples::uniform(ctx, &[], DType::F32, 2)?;
                let prediction = samples::normal(ctx, &[b, n, c], storage, 3)?;
                let target = samples::normal(ctx, &[b, n, c], storage, 4)?;
                let rows = samples::mask(ctx, &[b, n], 0.6, 5)?;
                let some = samples::mask(ctx, &[b], 0.7, 6)?;
                let keep = Keep { rows: by_row.then_some(&rows), samples: by_sample.then_some(&some) };
                Ok(vec![launch(ctx, &upstream, &inverse, &prediction, &target, keep)?])
            })
        })
        .collect()
}

/// Mistakes that the cases must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "i += ROW_LANES", replace: "i += 2u * ROW_LANES" },
    Fault { find: "inverse[0] * 2.0", replace: "inverse[0]" },
    Fault { find: "(row / p.group) * p.group_stride + row % p.group", replace: "row" },
    Fault { find: "upstream[0] * ", replace: "" },
    Fault { find: "sample_mask[row / p.sample_rows]", replace: "sample_mask[0]" },
];
