//! Mean squared error over the rows that count.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::masks::{Groups, groups};
use crate::kernels::rows::lanes;
use crate::kernels::{Case, Fault, Tolerance, loss_mean, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// Per chunk of rows: the sum of `keep[r] * (prediction - target)^2` and of `keep[r] = row_mask[r] * sample_mask[sample]`.
pub static KERNEL: Kernel = Kernel {
    name: "masked_mse",
    source: include_str!("../../shaders/masked_mse.wgsl"),
    parts: &[Part::Grid, Part::Rows, Part::Reduce],
    bindings: &[
        Binding::stored("prediction"),
        Binding::stored("truth"),
        Binding::f32("row_mask"),
        Binding::f32("sample_mask"),
        Binding::f32_mut("pairs"),
    ],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    cells: u32,
    chunk_rows: u32,
    chunks: u32,
    group: u32,
    group_stride: u32,
    sample_rows: u32,
}

/// Which rows of a loss count: both masks F32 0/1, a missing one keeps everything.
#[derive(Clone, Copy, Default)]
pub struct Keep<'a> {
    /// One value per row, as (R) or (B, N).
    pub rows: Option<&'a Tensor>,
    /// One value per sample (B); a sample is R / B rows in a row.
    pub samples: Option<&'a Tensor>,
}

impl Keep<'_> {
    /// How the row mask lies in memory, and how many rows make a sample.
    pub(crate) fn layout(self, operation: &'static str, rows: usize) -> Result<(Groups, u32)> {
        let places = match self.rows {
            Some(mask) => groups(operation, "a row mask", mask, rows)?,
            None => Groups::NONE,
        };
        let sample_rows = match self.samples {
            Some(mask) if mask.shape().rank() == 1 && rows.is_multiple_of(mask.shape().last().max(1)) => {
                rows / mask.shape().last().max(1)
            }
            Some(mask) => {
                return Err(Error::shape(operation, format!("a sample mask that divides {rows} rows"), mask.shape()));
            }
            None => 1,
        };
        Ok((places, sample_rows as u32))
    }

    /// The flags of the kernels.
    pub(crate) fn flags(self) -> [(&'static str, f64); 2] {
        [("ROW_MASK", f64::from(self.rows.is_some())), ("SAMPLE_MASK", f64::from(self.samples.is_some()))]
    }
}

/// Returns `(loss, inverse)`, both () F32: the mean over the elements of the kept rows of (prediction - target)^2, and 1
/// over their number; both 0 when no row is kept. Prediction and target are of one shape, rows along the last axis.
///
/// # Errors
/// A shape error when prediction and target differ or a mask does not fit the rows.
pub fn launch(ctx: &Context, prediction: &Tensor, target: &Tensor, keep: Keep<'_>) -> Result<(Tensor, Tensor)> {
    let shape = prediction.shape();
    if target.dims() != prediction.dims() {
        return Err(Error::shape("masked_mse", format!("target {shape}"), target.shape()));
    }
    let rows = shape.rows();
    let (places, sample_rows) = keep.layout("masked_mse", rows)?;
    let lanes = lanes(ctx, rows, shape.cells());
    let chunk_rows = chunk_rows(rows, shape.cells(), lanes);
    let chunks = rows.div_ceil(chunk_rows);
    let (no_rows, no_samples) = (Tensor::empty(ctx, &[1], DType::F32)?, Tensor::empty(ctx, &[1], DType::F32)?);
    let pairs = Tensor::empty(ctx, &[chunks, 2], DType::F32)?;
    let launch = Launch::new(&KERNEL)
        .tensors(&[prediction, target, keep.rows.unwrap_or(&no_rows), keep.samples.unwrap_or(&no_samples), &pairs])
        .params(&Params {
            rows: rows as u32,
            cells: shape.cells() as u32,
            chunk_rows: chunk_rows as u32,
            chunks: chunks as u32,
            group: places.group,
            group_stride: places.stride,
            sample_rows,
        })
        .constant("ROW_LANES", lanes as f64)
        .groups(chunks.div_ceil(64 / lanes))
        .flops(3.0 * shape.elements() as f64);
    keep.flags().into_iter().fold(launch, |launch, (name, value)| launch.constant(name, value)).run(ctx)?;
    loss_mean::launch(ctx, &pairs, shape.last(), 1)
}

/// Rows per chunk: at least 8 cells for each of its lanes, and at most 2048 chunks in all, so that the last reduction stays
/// small.
fn chunk_rows(rows: usize, cells: usize, lanes: usize) -> usize {
    const MOST: usize = 2048;
    (8 * lanes).div_ceil(cells).max(rows.div_ceil(MOST)).max(1)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (prediction, truth, row_mask, sample_mask) = (t.f32(0), t.f32(1), t.f32(2), t.f32(3));
    let (by_row, by_sample) = (t.flag("ROW_MASK"), t.flag("SAMPLE_MASK"));
    let places = Groups { group: p.group, stride: p.group_stride };
    let stride = 4 * p.cells as usize;
    let mut pairs = vec![0f64; 4 * p.chunks as usize];
    for r in 0..p.rows as usize {
        let kept_row = if by_row { f64::from(row_mask[places.at(r)]) } else { 1.0 };
        let keep = kept_row * if by_sample { f64::from(sample_mask[r / p.sample_rows as usize]) } else { 1.0 };
        if keep == 0.0 {
            continue;
        }
        let row = r * stride..(r + 1) * stride;
        let squares =
            prediction[row.clone()].iter().zip(&truth[row]).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2));
        let chunk = r / p.chunk_rows as usize;
        pairs[4 * chunk] += keep * squares.sum::<f64>();
        pairs[4 * chunk + 1] += keep;
    }
    t.put_f32(4, pairs.into_iter().map(|v| v as f32).collect());
    Ok(())
}

/// (samples, tokens, width, row mask, sample mask) for the parity tests of this kernel and its gradient.
pub(crate) const SHAPES: [(usize, usize, usize, bool, bool); 6] = [
    (1, 1, 1, false, false),
    (3, 5, 7, true, true),
    (2, 17, 64, true, false),
    (5, 13, 257, false, true),
    (33, 2, 9, true, true),
    (2, 4099, 3, false, true),
];

/// Shapes for the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    SHAPES
        .into_iter()
        .map(|(b, n, c, by_row, by_sample)| {
            let name = format!("{b}x{n}x{c} row mask {by_row} sample mask {by_sample}");
            Case::new(name, Tolerance::sum(b * n * c), move |ctx, storage| {
                let prediction = samples::normal(ctx, &[b, n, c], storage, 1)?;
                let target = samples::normal(ctx, &[b, n, c], storage, 2)?;
                let rows = samples::mask(ctx, &[b, n], 0.6, 3)?;
                let some = samples::mask(ctx, &[b], 0.7, 4)?;
                let keep = Keep { rows: by_row.then_some(&rows), samples: by_sample.then_some(&some) };
                let (loss, inverse) = launch(ctx, &prediction, &target, keep)?;
                Ok(vec![loss, inverse])
            })
        })
        .collect()
}

/// Mistakes that the cases must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "(row / p.group) * p.group_stride + row % p.group", replace: "row" },
    Fault { find: "sample_mask[row / p.sample_rows]", replace: "sample_mask[0]" },
    Fault { find: "squares += d * d;", replace: "squares += d;" },
    Fault { find: "select(0.0, kept, lane == 0u)", replace: "kept" },
];
