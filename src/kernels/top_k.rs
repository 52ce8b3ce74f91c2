//! The k best of every row.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::rows::{lanes, workgroups};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// The k largest scores of every row, largest first, lowest index first among equals.
pub static KERNEL: Kernel = Kernel {
    name: "top_k",
    source: include_str!("../../shaders/top_k.wgsl"),
    parts: &[Part::Grid, Part::Rows, Part::Reduce],
    bindings: &[Binding::stored("scores"), Binding::u32_mut("indices"), Binding::f32_mut("values")],
    epilogues: false,
    twin,
};

/// The largest k.
pub const MOST: usize = 64;

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    width: u32,
    cells: u32,
    first: u32,
    k: u32,
    stride: u32,
}

/// Returns `(indices, values)` of the k largest of scores (Q, C) in every row, among the candidates from `first` on:
/// U32 and F32, both (Q, k), largest first, lowest index first among equals. NaN and minus infinity are never chosen;
/// where candidates run out, the index is C and the value `f32::MIN`.
///
/// # Errors
/// A shape error when the scores are not of rank 2, k is 0, above [`MOST`] or above C - first, or C above 2^24.
pub fn launch(ctx: &Context, scores: &Tensor, k: usize, first: usize) -> Result<(Tensor, Tensor)> {
    let &[rows, width] = scores.dims() else {
        return Err(Error::shape("top_k", "scores (queries, candidates)", scores.shape()));
    };
    if k == 0 || k > MOST || first + k > width || width > 1 << 24 {
        let expected = format!("1 <= k <= {MOST} and k <= candidates - first, of at most 2^24 candidates");
        return Err(Error::shape("top_k", expected, format!("k {k}, first {first}, {width} candidates")));
    }
    let indices = Tensor::empty(ctx, &[rows, k], DType::U32)?;
    let values = Tensor::empty(ctx, &[rows, k], DType::F32)?;
    let lanes = lanes(ctx, rows, scores.shape().cells());
    Launch::new(&KERNEL)
        .tensors(&[scores, &indices, &values])
        .params(&Params {
            rows: rows as u32,
            width: width as u32,
            cells: scores.shape().cells() as u32,
            first: first as u32,
            k: k as u32,
            stride: values.shape().stride() as u32,
        })
        .constant("ROW_LANES", lanes as f64)
        .groups(workgroups(rows, lanes))
        .flops((k * scores.shape().elements()) as f64)
        .run(ctx)?;
    Ok((indices, values))
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let scores = t.f32(0);
    let (width, stride) = (p.width as usize, p.stride as usize);
    let mut indices = vec![0u32; p.rows as usize * stride];
    let mut values = vec![0f32; p.rows as usize * stride];
    for (r, row) in scores.chunks_exact(4 * p.cells as usize).take(p.rows as usize).enumerate() {
        let candidates = row[..width].iter().copied().enumerate().skip(p.first as usize);
        let mut order: Vec<(usize, f32)> = candidates.filter(|(_, v)| *v > f32::MIN).collect();
        // A stable sort keeps equal scores in the order of their indices.
        order.sort_by(|a, b| b.1.total_cmp(&a.1));
        order.resize(order.len().max(p.k as usize), (width, f32::MIN));
        for (slot, (index, value)) in order.into_iter().take(p.k as usize).enumerate() {
            indices[r * stride + slot] = index as u32;
            values[r * stride + slot] = value;
        }
    }
    t.put_u32(1, &indices);
    t.put_f32(2, values);
    Ok(())
}

/// (rows, candidates, k, first, distinct scores) for the parity test; 0 distinct: normal draws, few distinct: many ties.
#[must_use]
pub fn cases() -> Vec<Case> {
    [
        (1, 1, 1, 0, 0),
        (3, 7, 5, 2, 0),
        (5, 64, 64, 0, 0),
        (4, 257, 3, 1, 3),
        (2, 1031, 17, 6, 0),
        (3, 300, 10, 0, 2),
        (2, 9, 7, 0, 1),
        (70, 257, 5, 3, 40),
    ]
    .into_iter()
    .map(|(rows, width, k, first, distinct)| {
        let label = format!("{k} of {rows}x{width} from {first}, {distinct} distinct");
        Case::new(label, Tolerance::exact(), move |ctx, storage| {
            let scores = if distinct == 0 {
                samples::normal(ctx, &[rows, width], storage, 1)?
            } else {
                let few: Vec<f32> = (0..rows * width).map(|i| -1.0 - (i * 7919 % 101 % distinct) as f32).collect();
                Tensor::from_f32(ctx, &[rows, width], &few, storage)?
            };
            let (indices, values) = launch(ctx, &scores, k, first)?;
            Ok(vec![indices, values])
        })
    })
    .collect()
}

/// Mistakes that the cases must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "index > previous.index", replace: "index >= previous.index" },
    Fault { find: "index >= p.first && ", replace: "" },
    Fault { find: " && index < p.width", replace: "" },
    Fault { find: "select(LOWEST, -f32(best.index), best.value == top)", replace: "-f32(best.index)" },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_run_out() {
        let ctx = Context::cpu();
        let scores = [f32::NAN, 2.0, f32::NEG_INFINITY, 2.0, 3.0];
        let scores = Tensor::from_f32(&ctx, &[1, 5], &scores, DType::F32).unwrap();
        let (indices, values) = launch(&ctx, &scores, 4, 0).unwrap();
        assert_eq!(indices.to_u32().unwrap(), [4, 1, 3, 5]);
        assert_eq!(values.to_f32().unwrap(), [3.0, 2.0, 2.0, f32::MIN]);
    }

    #[test]
    fn too_large_k_is_refused() {
        let ctx = Context::cpu();
        let scores = Tensor::zeros(&ctx, &[2, 100], DType::F32).unwrap();
        let accepted: Vec<_> = [(0, 0), (65, 0), (5, 96)]
            .into_iter()
            .filter(|&(k, first)| launch(&ctx, &scores, k, first).is_ok())
            .collect();
        assert!(accepted.is_empty(), "(k, first): {accepted:?}");
    }
}
