//! Test cases that the variants of matmul share: all forms and epilogues at given sizes, batches, f32 results.

use super::matmul::{Batched, Matmul};
use super::matmul_images::{Images, Operand};
use super::{Case, Tolerance, samples};
use crate::device::{Context, Epilogue, EpilogueKind};
use crate::error::Result;
use crate::shape::DType;
use crate::tensor::Tensor;

/// M, N, K.
pub(super) type Size = (usize, usize, usize);

/// A variant: writes the batch of products A B into C.
pub(super) trait Run:
    Fn(&Context, &Batched, &Tensor, &Tensor, &Tensor, Epilogue<'_>) -> Result<()> + Clone + Send + Sync + 'static
{
}

impl<F> Run for F where
    F: Fn(&Context, &Batched, &Tensor, &Tensor, &Tensor, Epilogue<'_>) -> Result<()> + Clone + Send + Sync + 'static
{
}

/// A x B, A x B^T, A^T x B^T, A^T x B.
const FORMS: [(bool, bool); 4] = [(false, false), (false, true), (true, true), (true, false)];

/// The four forms at each size, each with an epilogue of its own, the last one with a result in f32. Sizes share their
/// pipelines, which software drivers compile slowly, unless `rotate` gives each size other epilogues. The last size also has the
/// product in front of a GELU's gradient, a gradient of weights that is added to another, and such gradients with those of biases.
pub(super) fn forms(name: &str, rotate: bool, sizes: &[Size], run: impl Run) -> Vec<Case> {
    let mut cases = Vec::new();
    for (i, &(m, n, k)) in sizes.iter().enumerate() {
        let mut all: Vec<_> = FORMS
            .into_iter()
            .zip(EpilogueKind::ALL.into_iter().take(4).cycle().skip(if rotate { i % 4 } else { 0 }))
            .collect();
        if i + 1 == sizes.len() {
            let more = [EpilogueKind::GeluSlope, EpilogueKind::Added, EpilogueKind::RowSums, EpilogueKind::RowSums];
            all.extend([FORMS[0], FORMS[3], FORMS[3], FORMS[3]].into_iter().zip(more));
        }
        for (f, ((trans_a, trans_b), kind)) in all.into_iter().enumerate() {
            let (form, run) = (Matmul { trans_a, trans_b }, run.clone());
            let wide = f > 4 || f == 3 && (i % 2 == 0 || !rotate);
            let added = kind == EpilogueKind::Added || f == 7;
            let label = format!("{name}, {m}x{n}x{k} {form:?} {}{}", kind.name(), if added { ", added" } else { "" });
            cases.push(Case::new(label, Tolerance::sum(k + 2), move |ctx, dtype| {
                product(ctx, form, (m, n, k), (kind, added), [dtype, if wide { DType::F32 } else { dtype }], &run)
            }));
        }
    }
    cases
}

/// One product with its epilogue, operands and result in two types: C, and what else the epilogue writes. With `added`, what it
/// writes has something in its place already.
pub(super) fn product(
    ctx: &Context,
    form: Matmul,
    (m, n, k): Size,
    (kind, added): (EpilogueKind, bool),
    [dtype, out]: [DType; 2],
    run: &impl Run,
) -> Result<Vec<Tensor>> {
    let a = samples::normal(ctx, &if form.trans_a { [k, m] } else { [m, k] }, dtype, 1)?;
    let b = samples::normal(ctx, &if form.trans_b { [n, k] } else { [k, n] }, dtype, 2)?;
    let bias = samples::normal(ctx, &[n], dtype, 3)?;
    let residual = samples::normal(ctx, &[m, n], dtype, 4)?;
    let pre_activation = Tensor::empty(ctx, &[m, n], dtype)?;
    let place = |dims: &[usize], dtype, seed| {
        if added { samples::normal(ctx, dims, dtype, seed) } else { Tensor::empty(ctx, dims, dtype) }
    };
    let (c, sums) = (place(&[m, n], out, 5)?, place(&[m], DType::F32, 6)?);
    let epilogue = match kind {
        EpilogueKind::None => Epilogue::None,
        EpilogueKind::Added => Epilogue::Added,
        EpilogueKind::Bias => Epilogue::Bias(&bias),
        EpilogueKind::BiasChannel => Epilogue::BiasChannel(&bias),
        EpilogueKind::BiasGelu => Epilogue::BiasGelu { bias: &bias, pre_activation: &pre_activation },
        EpilogueKind::GeluSlope => Epilogue::GeluSlope { pre_activation: &residual },
        EpilogueKind::BiasResidual => Epilogue::BiasResidual { bias: &bias, residual: &residual },
        EpilogueKind::RowSums => Epilogue::RowSums { sums: &sums, added },
    };
    run(ctx, &Batched::single(form, (m, n, k), [&a, &b]), &a, &b, &c, epilogue)?;
    Ok(match kind {
        EpilogueKind::BiasGelu => vec![c, pre_activation],
        EpilogueKind::RowSums => vec![c, sums],
        _ => vec![c],
    })
}

/// One weight per position: a shared A, results that interleave, a bias for each.
pub(super) fn batches(run: impl Run) -> Vec<Case> {
    let mut cases = Vec::new();
    for (b, n, d) in [(2, 3, 5), (70, 2, 33)] {
        let run = run.clone();
        cases.push(Case::new(format!("one weight per position {b}x{n}x{d}"), Tolerance::sum(d), move |ctx, dtype| {
            let (g, w) = (samples::normal(ctx, &[b, d], dtype, 1)?, samples::normal(ctx, &[n, d, d], dtype, 2)?);
            let bias = samples::normal(ctx, &[n, d], dtype, 3)?;
            let c = Tensor::empty(ctx, &[b, n, d], dtype)?;
            let cells = g.shape().cells();
            let batched = Batched {
                form: Matmul { trans_a: false, trans_b: true },
                batches: n,
                rows: b,
                width: d,
                inner: d,
                a_row: cells,
                a_batch: 0,
                b_row: cells,
                b_batch: d * cells,
                c_row: n * cells,
                c_batch: cells,
                bias_batch: cells,
                images: None,
            };
            run(ctx, &batched, &g, &w, &c, Epilogue::Bias(&bias))?;
            Ok(vec![c])
        }));
    }
    cases
}

/// Rows of each matrix as patches of images, in parts of K where they are B's; with a bias for each channel where they are C's.
pub(super) fn patches(run: impl Run) -> Vec<Case> {
    let mut cases = Vec::new();
    for (samples, channels, across, side, d) in [(4, 3, 3, 4, 5), (1, 2, 5, 8, 70), (3, 1, 4, 12, 33)] {
        for of in [Operand::A, Operand::B, Operand::C] {
            let run = run.clone();
            let (n, pixels, size) = (samples * across * across, channels * side * side, side * across);
            let label = format!("patches of {of:?}, {samples}x{channels}x{size}x{size} by {side}, {d}");
            let tolerance = Tolerance::sum(if of == Operand::B { n } else { pixels.max(d) });
            cases.push(Case::new(label, tolerance, move |ctx, dtype| {
                let images = samples::normal(ctx, &[samples, channels, size, size], dtype, 1)?;
                let tokens = samples::normal(ctx, &[n, d], dtype, 2)?;
                let weight = samples::normal(ctx, &[d, pixels], dtype, 3)?;
                let bias = samples::normal(ctx, &[channels], dtype, 4)?;
                let m = Batched { images: Some(Images { of, channels, side, across }), ..Batched::default() };
                let (cells, token_cells) = (pixels / 4, tokens.shape().cells());
                let form = |trans_a, trans_b| Matmul { trans_a, trans_b };
                let (m, [a, b, c], epilogue) = match of {
                    Operand::A => {
                        let m = Batched { form: form(false, true), rows: n, width: d, inner: pixels, ..m };
                        (Batched { b_row: cells, c_row: token_cells, ..m }, [&images, &weight, &tokens], Epilogue::None)
                    }
                    Operand::B => {
                        // Two parts of K where it can be halved: their sums one behind the other.
                        let parts = if n.is_multiple_of(8) { 2 } else { 1 };
                        let m = Batched { form: form(true, false), rows: d, width: pixels, inner: n / parts, ..m };
                        let m = Batched { a_row: token_cells, a_batch: n / parts * token_cells, c_row: cells, ..m };
                        let m = Batched { batches: parts, b_batch: n / parts, c_batch: d * cells, ..m };
                        let c = Tensor::empty(ctx, &[parts * d, pixels], DType::F32)?;
                        let sums = Tensor::empty(ctx, &[parts, d], DType::F32)?;
                        run(ctx, &m, &tokens, &images, &c, Epilogue::RowSums { sums: &sums, added: false })?;
                        return Ok(vec![c, sums]);
                    }
                    Operand::C => {
                        let m = Batched { form: form(false, false), rows: n, width: pixels, inner: d, ..m };
                        (
                            Batched { a_row: token_cells, b_row: cells, ..m },
                            [&tokens, &weight, &images],
                            Epilogue::BiasChannel(&bias),
                        )
                    }
                };
                // A result of the shape of what stands in its place above.
                let to = Tensor::empty(ctx, c.dims(), dtype)?;
                run(ctx, &Batched { batches: 1, ..m }, a, b, &to, epilogue)?;
                Ok(vec![to])
            }));
        }
    }
    cases
}
