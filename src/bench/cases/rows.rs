//! Kernels over rows and over elements: normalisation, softmax, activations, sums.

use super::{Shapes, twinned};
use crate::bench::case::{Case, Work};
use crate::device::Context;
use crate::error::Result;
use crate::kernels::{
    Tolerance, add, column_sum, embedding, embedding_backward, embedding_links, gelu, gelu_backward, l2_normalise,
    layernorm, layernorm_backward, layernorm_backward_params, samples, softmax, softmax_backward,
};
use crate::shape::DType;
use crate::tensor::Tensor;

pub(super) fn cases(shapes: &Shapes) -> Vec<Case> {
    let mut cases = by_rows(shapes.rows(), shapes.width);
    cases.extend(by_elements(shapes.rows(), shapes.width));
    cases.extend(embeddings(shapes));
    if shapes.long_rows > 0 {
        cases.extend(by_rows(shapes.long_rows, shapes.width));
        cases.extend(by_elements(shapes.long_rows, shapes.width));
    }
    cases
}

fn drawn(ctx: &Context, (r, w): (usize, usize), dtype: DType, seed: u64) -> Result<Tensor> {
    samples::normal(ctx, &[r, w], dtype, seed)
}

fn by_rows(r: usize, w: usize) -> Vec<Case> {
    let (size, label, n) = ((r, w), format!("{r}x{w}"), r * w);
    let cost = |flops: usize, tensors: usize, words: usize| ((flops * n) as f64, tensors * n, words);
    vec![
        twinned("layernorm", &label, cost(8, 2, 2 * r), Tolerance::sum(w), move |ctx, dtype, seed| {
            let x = drawn(ctx, size, dtype, seed)?;
            let (weight, bias) =
                (samples::normal(ctx, &[w], dtype, seed + 1)?, samples::normal(ctx, &[w], dtype, seed + 2)?);
            Ok(Work::new(&[&x.clone()], move |ctx| {
                let (y, mean, rstd) = layernorm::launch(ctx, &x, Some((&weight, &bias)))?;
                Ok(vec![y, mean, rstd])
            }))
        }),
        twinned("layernorm_backward", &label, cost(14, 3, 2 * r), Tolerance::sum(w), move |ctx, dtype, seed| {
            let (dy, x) = (drawn(ctx, size, dtype, seed)?, drawn(ctx, size, dtype, seed + 1)?);
            let weight = samples::normal(ctx, &[w], dtype, seed + 2)?;
            let (_, mean, rstd) = layernorm::launch(ctx, &x, None)?;
            Ok(Work::new(&[&x.clone()], move |ctx| {
                Ok(vec![layernorm_backward::launch(ctx, &dy, &x, Some(&weight), &mean, &rstd, None)?])
            }))
        }),
        twinned("layernorm_backward_params", &label, cost(5, 2, 2 * r), Tolerance::sum(r), move |ctx, dtype, seed| {
            let (dy, x) = (drawn(ctx, size, dtype, seed)?, drawn(ctx, size, dtype, seed + 1)?);
            let (_, mean, rstd) = layernorm::launch(ctx, &x, None)?;
            Ok(Work::new(&[&x.clone()], move |ctx| {
                let (dweight, dbias) = layernorm_backward_params::launch(ctx, &dy, &x, &mean, &rstd)?;
                Ok(vec![dweight, dbias])
            }))
        }),
        twinned("softmax", &label, cost(8, 2, 0), Tolerance::sum(w), move |ctx, dtype, seed| {
            let x = drawn(ctx, size, dtype, seed)?;
            Ok(Work::new(&[&x.clone()], move |ctx| Ok(vec![softmax::launch(ctx, &x)?])))
        }),
        twinned("softmax_backward", &label, cost(4, 3, 0), Tolerance::sum(w), move |ctx, dtype, seed| {
            let (dy, x) = (drawn(ctx, size, dtype, seed)?, drawn(ctx, size, dtype, seed + 1)?);
            let y = softmax::launch(ctx, &x)?;
            Ok(Work::new(&[&y.clone()], move |ctx| Ok(vec![softmax_backward::launch(ctx, &dy, &y)?])))
        }),
        twinned("l2_normalise", &label, cost(3, 2, r), Tolerance::sum(w), move |ctx, dtype, seed| {
            let x = drawn(ctx, size, dtype, seed)?;
            Ok(Work::new(&[&x.clone()], move |ctx| {
                let (y, norm) = l2_normalise::launch(ctx, &x)?;
                Ok(vec![y, norm])
            }))
        }),
        twinned("column_sum", &label, cost(1, 1, w), Tolerance::sum(r), move |ctx, dtype, seed| {
            let x = drawn(ctx, size, dtype, seed)?;
            Ok(Work::new(&[&x.clone()], move |ctx| Ok(vec![column_sum::launch(ctx, &x, 1, None)?])))
        }),
    ]
}

fn by_elements(r: usize, w: usize) -> Vec<Case> {
    let (size, label, n) = ((r, w), format!("{r}x{w}"), r * w);
    let cost = |flops: usize, tensors: usize| ((flops * n) as f64, tensors * n, 0);
    let close = Tolerance::elementwise();
    vec![
        twinned("gelu", &label, cost(10, 2), close, move |ctx, dtype, seed| {
            let x = drawn(ctx, size, dtype, seed)?;
            Ok(Work::new(&[&x.clone()], move |ctx| Ok(vec![gelu::launch(ctx, &x)?])))
        }),
        twinned("gelu_backward", &label, cost(18, 3), close, move |ctx, dtype, seed| {
            let (x, dy) = (drawn(ctx, size, dtype, seed)?, drawn(ctx, size, dtype, seed + 1)?);
            Ok(Work::new(&[&x.clone()], move |ctx| Ok(vec![gelu_backward::launch(ctx, &x, &dy)?])))
        }),
        twinned("add", &label, cost(1, 3), close, move |ctx, dtype, seed| {
            let (a, b) = (drawn(ctx, size, dtype, seed)?, drawn(ctx, size, dtype, seed + 1)?);
            Ok(Work::new(&[&a.clone()], move |ctx| Ok(vec![add::launch(ctx, &a, &b)?])))
        }),
    ]
}

/// Captions: a row of the table for every token, and the gradient of the table.
fn embeddings(shapes: &Shapes) -> Vec<Case> {
    let ((v, e), b, l) = (shapes.vocabulary, shapes.batch, shapes.text);
    let label = format!("{}x{e} of {v}", b * l);
    let forward = (0.0, 2 * b * l * e, b * l);
    let backward = ((b * l * e) as f64, b * l * e, v * e + b * l);
    vec![
        twinned("embedding", &label, forward, Tolerance::exact(), move |ctx, dtype, seed| {
            let table = drawn(ctx, (v, e), dtype, seed)?;
            let ids = samples::ids(ctx, &[b, l], v as u32, seed + 1)?;
            Ok(Work::new(&[&table.clone()], move |ctx| Ok(vec![embedding::launch(ctx, &table, &ids)?])))
        }),
        twinned("embedding_backward", &label, backward, Tolerance::sum(b * l), move |ctx, dtype, seed| {
            let dy = samples::normal(ctx, &[b, l, e], dtype, seed)?;
            let ids = samples::ids(ctx, &[b, l], v as u32, seed + 1)?;
            Ok(Work::new(&[&dy.clone()], move |ctx| Ok(vec![embedding_backward::launch(ctx, &dy, &ids, v)?])))
        }),
        // Words alone, links in whole cells.
        twinned("embedding_links", &label, (0.0, 0, 5 * b * l), Tolerance::exact(), move |ctx, _, seed| {
            let ids = samples::ids(ctx, &[b, l], v as u32, seed + 1)?;
            Ok(Work::new(&[&ids.clone()], move |ctx| Ok(vec![embedding_links::launch(ctx, &ids, v)?])))
        }),
    ]
}
