//! Losses and their gradients.

use super::{Shapes, twinned};
use crate::bench::case::{Case, Work};
use crate::kernels::masked_mse::Keep;
use crate::kernels::{
    Tolerance, cross_entropy, cross_entropy_backward, infonce, infonce_backward, masked_mse, masked_mse_backward,
    samples,
};
use crate::shape::DType;
use crate::tensor::Tensor;

pub(super) fn cases(shapes: &Shapes) -> Vec<Case> {
    let mut cases = mse(shapes.batch, shapes.tokens(), shapes.width);
    if shapes.long_rows > 0 {
        cases.extend(mse(shapes.long_rows / shapes.tokens(), shapes.tokens(), shapes.width));
    }
    cases.extend(contrastive(shapes.batch.max(64)));
    cases.extend(tokens(shapes));
    cases
}

fn mse(b: usize, n: usize, d: usize) -> Vec<Case> {
    let (label, elements) = (format!("{}x{d}", b * n), b * n * d);
    let cost = |flops: usize, tensors: usize| ((flops * elements) as f64, tensors * elements, b * n);
    vec![
        twinned("masked_mse", &label, cost(3, 2), Tolerance::sum(64), move |ctx, dtype, seed| {
            let (x, y) = (
                samples::normal(ctx, &[b, n, d], dtype, 4 * seed)?,
                samples::normal(ctx, &[b, n, d], dtype, 4 * seed + 1)?,
            );
            let rows = samples::mask(ctx, &[b, n], 0.75, 4 * seed + 2)?;
            Ok(Work::new(&[&x.clone()], move |ctx| {
                let (loss, inverse) = masked_mse::launch(ctx, &x, &y, Keep { rows: Some(&rows), samples: None })?;
                Ok(vec![loss, inverse])
            }))
        }),
        twinned("masked_mse_backward", &label, cost(4, 3), Tolerance::elementwise(), move |ctx, dtype, seed| {
            let (x, y) = (
                samples::normal(ctx, &[b, n, d], dtype, 4 * seed)?,
                samples::normal(ctx, &[b, n, d], dtype, 4 * seed + 1)?,
            );
            let rows = samples::mask(ctx, &[b, n], 0.75, 4 * seed + 2)?;
            // Of order one, so that halves hold the result.
            let upstream = Tensor::from_f32(ctx, &[], &[1.0], DType::F32)?;
            let inverse = Tensor::from_f32(ctx, &[], &[0.5], DType::F32)?;
            Ok(Work::new(&[&x.clone()], move |ctx| {
                let keep = Keep { rows: Some(&rows), samples: None };
                Ok(vec![masked_mse_backward::launch(ctx, &upstream, &inverse, &x, &y, keep)?])
            }))
        }),
    ]
}

fn contrastive(b: usize) -> Vec<Case> {
    let (label, n) = (format!("{b}x{b}"), b * b);
    let close = Tolerance::sum(b);
    vec![
        twinned("infonce", &label, (8.0 * n as f64, n, 3 * b), close, move |ctx, dtype, seed| {
            let logits = samples::normal(ctx, &[b, b], dtype, 4 * seed)?;
            let mask = samples::mask(ctx, &[b], 0.9, 4 * seed + 1)?;
            Ok(Work::new(&[&logits.clone()], move |ctx| {
                let (loss, saved) = infonce::launch(ctx, &logits, &mask)?;
                Ok(vec![loss, saved.row_lse, saved.column_lse])
            }))
        }),
        twinned("infonce_backward", &label, (6.0 * n as f64, 2 * n, 3 * b), close, move |ctx, dtype, seed| {
            let logits = samples::normal(ctx, &[b, b], dtype, 4 * seed)?;
            let mask = samples::mask(ctx, &[b], 0.9, 4 * seed + 1)?;
            let upstream = Tensor::from_f32(ctx, &[], &[1.0], DType::F32)?;
            let (_, saved) = infonce::launch(ctx, &logits, &mask)?;
            Ok(Work::new(&[&logits.clone()], move |ctx| {
                Ok(vec![infonce_backward::launch(ctx, &upstream, &logits, &mask, &saved)?])
            }))
        }),
    ]
}

fn tokens(shapes: &Shapes) -> Vec<Case> {
    let (b, l, v) = (shapes.batch, shapes.text, shapes.vocabulary.0);
    let (label, n) = (format!("{}x{v}", b * l), b * l * v);
    vec![
        twinned("cross_entropy", &label, (5.0 * n as f64, n, 4 * b * l), Tolerance::sum(v), move |ctx, dtype, seed| {
            let logits = samples::normal(ctx, &[b * l, v], dtype, 4 * seed)?;
            let targets = samples::ids(ctx, &[b, l], v as u32, 4 * seed + 1)?;
            let mask = samples::mask(ctx, &[b, l], 0.8, 4 * seed + 2)?;
            Ok(Work::new(&[&logits.clone()], move |ctx| {
                let (loss, inverse, lse) = cross_entropy::launch(ctx, &logits, &targets, &mask)?;
                Ok(vec![loss, inverse, lse])
            }))
        }),
        twinned(
            "cross_entropy_backward",
            &label,
            (4.0 * n as f64, 2 * n, 3 * b * l),
            Tolerance::sum(v),
            move |ctx, dtype, seed| {
                let logits = samples::normal(ctx, &[b * l, v], dtype, 4 * seed)?;
                let targets = samples::ids(ctx, &[b, l], v as u32, 4 * seed + 1)?;
                let mask = samples::mask(ctx, &[b, l], 0.8, 4 * seed + 2)?;
                let upstream = Tensor::from_f32(ctx, &[], &[1.0], DType::F32)?;
                let inverse = Tensor::from_f32(ctx, &[], &[0.5], DType::F32)?;
                let (_, _, lse) = cross_entropy::launch(ctx, &logits, &targets, &mask)?;
                Ok(Work::new(&[&logits.clone()], move |ctx| {
                    // In place: from the second run on it is the gradient of a gradient, as much work.
                    cross_entropy_backward::launch_over(ctx, &upstream, &inverse, &logits, &targets, &mask, &lse)?;
                    Ok(vec![logits.clone()])
                }))
            },
        ),
    ]
}
