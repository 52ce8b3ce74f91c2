//! What a model does to tokens besides normalising and multiplying them: positions, mask tokens, means over tokens, images.

use super::{Shapes, twinned};
use crate::bench::case::{Case, Work};
use crate::device::Context;
use crate::error::Result;
use crate::kernels::{
    Tolerance, add_rows, affine, channel_sum, dropout, mask_product, masked_mean, masked_mean_backward,
    permutation_mask, replace_rows, replace_rows_backward, samples, scale_shift, scale_shift_backward_input,
    scale_shift_backward_params,
};
use crate::shape::DType;
use crate::tensor::Tensor;

pub(super) fn cases(shapes: &Shapes) -> Vec<Case> {
    let (b, n, d) = (shapes.batch, shapes.tokens(), shapes.width);
    let mut cases = rows([b, n, d]);
    cases.extend(expansion([b, n, d]));
    cases.extend(means([b, shapes.text, shapes.vocabulary.1]));
    cases.extend(images(b, shapes.image.0));
    cases.extend(masks(b, n));
    cases
}

fn drawn(ctx: &Context, dims: &[usize], dtype: DType, seed: u64) -> Result<Tensor> {
    samples::normal(ctx, dims, dtype, seed)
}

/// Seed and step of random numbers, as a training step uploads them.
fn random(ctx: &Context, seed: u64) -> Result<Tensor> {
    Tensor::from_u32(ctx, &[4], &[seed as u32, 7, 5, 0])
}

/// Position embeddings, mask tokens and dropout over all tokens.
fn rows([b, n, d]: [usize; 3]) -> Vec<Case> {
    let (label, all) = (format!("{b}x{n}x{d}"), b * n * d);
    let close = Tolerance::elementwise();
    vec![
        twinned("add_rows", &label, (all as f64, 2 * all + n * d, 0), close, move |ctx, dtype, seed| {
            let (x, v) = (drawn(ctx, &[b, n, d], dtype, 4 * seed)?, drawn(ctx, &[n, d], dtype, 4 * seed + 1)?);
            Ok(Work::new(&[&x.clone()], move |ctx| Ok(vec![add_rows::launch(ctx, &x, &v)?])))
        }),
        twinned("replace_rows", &label, (0.0, 2 * all + d, b * n), Tolerance::exact(), move |ctx, dtype, seed| {
            let (x, token) = (drawn(ctx, &[b, n, d], dtype, 4 * seed)?, drawn(ctx, &[d], dtype, 4 * seed + 1)?);
            let mask = samples::mask(ctx, &[b, n], 0.5, 4 * seed + 2)?;
            Ok(Work::new(&[&x.clone()], move |ctx| Ok(vec![replace_rows::launch(ctx, &x, &mask, &token)?])))
        }),
        twinned("replace_rows_backward", &label, (0.0, 2 * all, b * n), Tolerance::exact(), move |ctx, dtype, seed| {
            let dy = drawn(ctx, &[b, n, d], dtype, 4 * seed)?;
            let mask = samples::mask(ctx, &[b, n], 0.5, 4 * seed + 1)?;
            Ok(Work::new(&[&dy.clone()], move |ctx| Ok(vec![replace_rows_backward::launch(ctx, &dy, &mask)?])))
        }),
        twinned("dropout", &label, (all as f64, 2 * all, 0), close, move |ctx, dtype, seed| {
            let (x, random) = (drawn(ctx, &[b, n, d], dtype, 4 * seed)?, random(ctx, seed)?);
            Ok(Work::new(&[&x.clone()], move |ctx| Ok(vec![dropout::launch(ctx, &x, &random, 3, 0.1)?])))
        }),
    ]
}

/// One vector of a sample spread over its tokens, as the image decoder begins.
fn expansion([b, n, d]: [usize; 3]) -> Vec<Case> {
    let (label, all, close) = (format!("{b}x{n}x{d}"), b * n * d, Tolerance::elementwise());
    let flops = 2.0 * all as f64;
    vec![
        twinned("scale_shift", &label, (flops, b * d + 2 * n * d + all, 0), close, move |ctx, dtype, seed| {
            let draw = |dims: &[usize], i| drawn(ctx, dims, dtype, 4 * seed + i);
            let (g, scale, shift) = (draw(&[b, d], 0)?, draw(&[n, d], 1)?, draw(&[n, d], 2)?);
            Ok(Work::new(&[&g.clone()], move |ctx| Ok(vec![scale_shift::launch(ctx, &g, &scale, &shift)?])))
        }),
        twinned(
            "scale_shift_backward_input",
            &label,
            (flops, all + n * d + b * d, 0),
            Tolerance::sum(n),
            move |ctx, dtype, seed| {
                let (dt, scale) = (drawn(ctx, &[b, n, d], dtype, 4 * seed)?, drawn(ctx, &[n, d], dtype, 4 * seed + 1)?);
                Ok(Work::new(&[&dt.clone()], move |ctx| {
                    Ok(vec![scale_shift_backward_input::launch(ctx, &dt, &scale)?])
                }))
            },
        ),
        twinned(
            "scale_shift_backward_params",
            &label,
            (1.5 * flops, all + b * d, 2 * n * d),
            Tolerance::sum(b),
            move |ctx, dtype, seed| {
                let (dt, g) = (drawn(ctx, &[b, n, d], dtype, 4 * seed)?, drawn(ctx, &[b, d], dtype, 4 * seed + 1)?);
                Ok(Work::new(&[&dt.clone()], move |ctx| {
                    Ok(<[Tensor; 2]>::from(scale_shift_backward_params::launch(ctx, &dt, &g)?).to_vec())
                }))
            },
        ),
    ]
}

/// The mean over the tokens of a caption.
fn means([b, l, e]: [usize; 3]) -> Vec<Case> {
    let (label, all) = (format!("{b}x{l}x{e}"), b * l * e);
    let cost = (2.0 * all as f64, all + b * e, b * l + b);
    vec![
        twinned("masked_mean", &label, cost, Tolerance::sum(l), move |ctx, dtype, seed| {
            let x = drawn(ctx, &[b, l, e], dtype, 4 * seed)?;
            let mask = samples::mask(ctx, &[b, l], 0.7, 4 * seed + 1)?;
            Ok(Work::new(&[&x.clone()], move |ctx| {
                let (y, inverse) = masked_mean::launch(ctx, &x, Some(&mask))?;
                Ok(vec![y, inverse])
            }))
        }),
        twinned("masked_mean_backward", &label, cost, Tolerance::elementwise(), move |ctx, dtype, seed| {
            let (x, dy) = (drawn(ctx, &[b, l, e], dtype, 4 * seed)?, drawn(ctx, &[b, e], dtype, 4 * seed + 2)?);
            let mask = samples::mask(ctx, &[b, l], 0.7, 4 * seed + 1)?;
            let (_, inverse) = masked_mean::launch(ctx, &x, Some(&mask))?;
            Ok(Work::new(&[&dy.clone()], move |ctx| {
                Ok(vec![masked_mean_backward::launch(ctx, &dy, l, Some(&mask), &inverse)?])
            }))
        }),
    ]
}

/// Pixels from 0 to 1 made numbers around 0, and the gradient of the bias of an image's channels.
fn images(b: usize, s: usize) -> Vec<Case> {
    let (label, all) = (format!("{b}x3x{s}x{s}"), 3 * b * s * s);
    vec![
        twinned("affine", &label, (2.0 * all as f64, 2 * all, 0), Tolerance::elementwise(), move |ctx, dtype, seed| {
            let x = drawn(ctx, &[b, 3, s, s], dtype, seed)?;
            Ok(Work::new(&[&x.clone()], move |ctx| Ok(vec![affine::launch(ctx, &x, 2.0, -1.0)?])))
        }),
        twinned("channel_sum", &label, (all as f64, all, 3), Tolerance::sum(b * s * s), move |ctx, dtype, seed| {
            let image = drawn(ctx, &[b, 3, s, s], dtype, seed)?;
            Ok(Work::new(&[&image.clone()], move |ctx| Ok(vec![channel_sum::launch(ctx, &image)?])))
        }),
    ]
}

/// Which tokens are hidden, and of which samples that counts.
fn masks(b: usize, n: usize) -> Vec<Case> {
    let label = format!("{b}x{n}");
    vec![
        // Every token asks how many others come before it.
        twinned("permutation_mask", &label, ((b * n * n) as f64, 0, b * n), Tolerance::exact(), move |ctx, _, seed| {
            let random = random(ctx, seed)?;
            Ok(Work::new(&[&random.clone()], move |ctx| {
                Ok(vec![permutation_mask::launch(ctx, [b, n], n / 2, &random, 3)?])
            }))
        }),
        twinned("mask_product", &label, ((b * n) as f64, 0, 2 * b * n + b), Tolerance::exact(), move |ctx, _, seed| {
            let m = samples::mask(ctx, &[b, n], 0.5, 4 * seed)?;
            let present = samples::mask(ctx, &[b], 0.9, 4 * seed + 1)?;
            Ok(Work::new(&[&m.clone()], move |ctx| Ok(vec![mask_product::launch(ctx, &m, &present)?])))
        }),
    ]
}
