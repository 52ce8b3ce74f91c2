//! What happens to one vector of a sample, to the similarities of a batch, and to the scalars of a loss: little work, where a
//! launch itself counts.

use super::{Shapes, twinned};
use crate::bench::case::{Case, Work};
use crate::kernels::{
    Tolerance, columns, concat, dot, exp_scale, l2_normalise, l2_normalise_backward, loss_mean, samples, scale_scalar,
    weighted_sum,
};
use crate::shape::DType;
use crate::tensor::Tensor;

pub(super) fn cases(shapes: &Shapes) -> Vec<Case> {
    let mut cases = vectors(shapes.batch, shapes.latent);
    cases.extend(similarities(shapes.batch.max(64)));
    cases.extend(scalars(shapes.rows()));
    cases
}

/// Two vectors of every sample side by side, one of them cut out again, the gradient of their direction.
fn vectors(b: usize, z: usize) -> Vec<Case> {
    let label = format!("{b}x{z}");
    let moved = (0.0, 4 * b * z, 0);
    let slope = (6.0 * (b * z) as f64, 3 * b * z, b);
    vec![
        twinned("concat", &label, moved, Tolerance::exact(), move |ctx, dtype, seed| {
            let draw = |i| samples::normal(ctx, &[b, z], dtype, 4 * seed + i);
            let (x, y) = (draw(0)?, draw(1)?);
            Ok(Work::new(&[&x.clone()], move |ctx| Ok(vec![concat::launch(ctx, &x, &y)?])))
        }),
        twinned("columns", &label, (0.0, 2 * b * z, 0), Tolerance::exact(), move |ctx, dtype, seed| {
            let x = samples::normal(ctx, &[b, 2 * z], dtype, seed)?;
            Ok(Work::new(&[&x.clone()], move |ctx| Ok(vec![columns::launch(ctx, &x, z, z)?])))
        }),
        twinned("l2_normalise_backward", &label, slope, Tolerance::sum(z), move |ctx, dtype, seed| {
            let draw = |i| samples::normal(ctx, &[b, z], dtype, 4 * seed + i);
            let (x, dy) = (draw(0)?, draw(1)?);
            let (_, norm) = l2_normalise::launch(ctx, &x)?;
            Ok(Work::new(&[&x.clone()], move |ctx| Ok(vec![l2_normalise_backward::launch(ctx, &dy, &x, &norm)?])))
        }),
    ]
}

/// Similarities of all pairs of a batch times the exponential of a learned scalar, and that scalar's gradient.
fn similarities(b: usize) -> Vec<Case> {
    let (label, n) = (format!("{b}x{b}"), b * b);
    vec![
        twinned("exp_scale", &label, (n as f64, 2 * n + 1, 0), Tolerance::elementwise(), move |ctx, dtype, seed| {
            let s = Tensor::from_f32(ctx, &[], &[0.7], dtype)?;
            let x = samples::normal(ctx, &[b, b], dtype, seed)?;
            Ok(Work::new(&[&x.clone()], move |ctx| Ok(vec![exp_scale::launch(ctx, &s, &x)?])))
        }),
        twinned("dot", &label, (2.0 * n as f64, 2 * n, 1), Tolerance::sum(n), move |ctx, dtype, seed| {
            let draw = |i| samples::normal(ctx, &[b, b], dtype, 4 * seed + i);
            let (x, y) = (draw(0)?, draw(1)?);
            Ok(Work::new(&[&x.clone()], move |ctx| Ok(vec![dot::launch(ctx, &x, &y)?])))
        }),
    ]
}

/// The ends of the losses.
fn scalars(rows: usize) -> Vec<Case> {
    let scalar = |value| move |ctx: &_| Tensor::from_f32(ctx, &[], &[value], DType::F32);
    let (first, second) = (scalar(0.7), scalar(-1.3));
    let one = scalar(0.7);
    vec![
        // A sum and a count to a cell of four values.
        twinned(
            "loss_mean",
            format!("{rows} pairs"),
            (2.0 * rows as f64, 0, 4 * rows + 2),
            Tolerance::sum(rows),
            move |ctx, _, seed| {
                let pairs = samples::uniform(ctx, &[rows, 2], DType::F32, seed)?;
                Ok(Work::new(&[&pairs.clone()], move |ctx| {
                    let (mean, inverse) = loss_mean::launch(ctx, &pairs, 3, 1)?;
                    Ok(vec![mean, inverse])
                }))
            },
        ),
        twinned("weighted_sum", "2 scalars", (4.0, 0, 3), Tolerance::elementwise(), move |ctx, _, _| {
            let (x, y) = (first(ctx)?, second(ctx)?);
            Ok(Work::new(&[&x.clone()], move |ctx| Ok(vec![weighted_sum::launch(ctx, &[(&x, 1.0), (&y, 0.5)])?])))
        }),
        twinned("scale_scalar", "1 scalar", (1.0, 0, 2), Tolerance::elementwise(), move |ctx, _, _| {
            let x = one(ctx)?;
            Ok(Work::new(&[&x.clone()], move |ctx| Ok(vec![scale_scalar::launch(ctx, &x, 0.5)?])))
        }),
    ]
}
