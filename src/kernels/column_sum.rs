//! Sums over rows: gradients of biases, positions and everything else that a batch shares.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::masks::{Groups, groups};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `y[n, c] = sum over j of weight[r] * x[r, c]`, `r = j * period + n`; per chunk of repeats j.
pub static KERNEL: Kernel = Kernel {
    name: "column_sum",
    source: include_str!("../../shaders/column_sum.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("x"), Binding::f32("weights"), Binding::f32_mut("y"), Binding::f32_mut("second")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    repeats: u32,
    period: u32,
    cells: u32,
    chunk: u32,
    chunks: u32,
    group: u32,
    group_stride: u32,
}

/// The sum over the rows r of x with `r % period == n`, each times its weight: (period, width) F32, or (width) when the
/// period is 1. x (R, width), F32 or F16, R a multiple of the period; weights F32 with R values in all, such as (B, N)
/// or (R). A row of weight 0 is left out whatever it holds.
///
/// # Errors
/// A shape error when the period does not divide the rows, or there are not as many weights as rows.
pub fn launch(ctx: &Context, x: &Tensor, period: usize, weights: Option<&Tensor>) -> Result<Tensor> {
    let width = x.shape().last();
    let dims: &[usize] = if period == 1 { &[width] } else { &[period, width] };
    let y = Tensor::empty(ctx, dims, DType::F32)?;
    launch_into(ctx, x, period, weights, &y, false)?;
    Ok(y)
}

/// [`launch`] into given memory of period * width values, F32; with `added` plus what stands there.
///
/// # Errors
/// As [`launch`]; a shape error when `y` has another size.
pub fn launch_into(
    ctx: &Context,
    x: &Tensor,
    period: usize,
    weights: Option<&Tensor>,
    y: &Tensor,
    added: bool,
) -> Result<()> {
    let rows = x.shape().rows();
    if period == 0 || rows == 0 || !rows.is_multiple_of(period) {
        return Err(Error::shape("column_sum", format!("rows in multiples of {period}"), x.shape()));
    }
    if y.shape().elements() != period * x.shape().last() {
        return Err(Error::shape("column_sum", format!("y of {period} rows of {}", x.shape().last()), y.shape()));
    }
    let (_, chunks) = chunks(ctx, rows / period, period * x.shape().cells());
    if chunks == 1 {
        return stage(ctx, x, period, weights, (y, None), added);
    }
    let partial = Tensor::empty(ctx, &[chunks * period, x.shape().last()], DType::F32)?;
    stage(ctx, x, period, weights, (&partial, None), false)?;
    launch_into(ctx, &partial, period, None, y, added)
}

/// The sums of the even rows of x (2 R, width) into the first of `pair`, of the odd rows into the second, both (width) F32; with
/// `added` plus what stands there.
///
/// # Errors
/// A shape error when the rows are odd in number or one of the pair has another size.
pub(crate) fn launch_pair_into(ctx: &Context, x: &Tensor, pair: (&Tensor, &Tensor), added: bool) -> Result<()> {
    let (rows, width) = (x.shape().rows(), x.shape().last());
    if rows == 0 || !rows.is_multiple_of(2) || [pair.0, pair.1].iter().any(|y| y.shape().elements() != width) {
        return Err(Error::shape("column_sum", format!("two sums of {width} over pairs of rows"), x.shape()));
    }
    let (_, chunks) = chunks(ctx, rows / 2, 2 * x.shape().cells());
    if chunks == 1 {
        return stage(ctx, x, 2, None, (pair.0, Some(pair.1)), added);
    }
    let partial = Tensor::empty(ctx, &[2 * chunks, width], DType::F32)?;
    stage(ctx, x, 2, None, (&partial, None), false)?;
    launch_pair_into(ctx, &partial, pair, added)
}

/// How many repeats one invocation adds, and how many such chunks there are, when a repeat is `span` cells wide. On hardware
/// chunks of at least 16, so that every stage shrinks the work, and no more chunks than keep a large GPU busy; processors
/// that play GPU are busy with few, and another launch costs them more than a longer sum.
pub(crate) fn chunks(ctx: &Context, repeats: usize, span: usize) -> (usize, usize) {
    chunks_for(ctx.capabilities().software, repeats, span)
}

fn chunks_for(software: bool, repeats: usize, span: usize) -> (usize, usize) {
    const BUSY: usize = 65_536;
    let least = if software { 128 } else { 16 };
    if repeats <= 2 * least {
        return (repeats, 1);
    }
    let chunks = repeats.div_ceil(least).min((BUSY / span).max(1));
    let chunk = repeats.div_ceil(chunks);
    (chunk, repeats.div_ceil(chunk))
}

/// One launch: y (chunks * period, width) F32, or its two rows in two tensors.
fn stage(
    ctx: &Context,
    x: &Tensor,
    period: usize,
    weights: Option<&Tensor>,
    (y, second): (&Tensor, Option<&Tensor>),
    added: bool,
) -> Result<()> {
    let shape = x.shape();
    let repeats = shape.rows() / period;
    let span = period * shape.cells();
    let (chunk, chunks) = chunks(ctx, repeats, span);
    let Groups { group, stride } = match weights {
        Some(weights) => groups("column_sum", "weights", weights, shape.rows())?,
        None => Groups::NONE,
    };
    // Two of them: a buffer that is read must not be one that may be written.
    let (absent, unwritten) = (Tensor::empty(ctx, &[1], DType::F32)?, Tensor::empty(ctx, &[1], DType::F32)?);
    Launch::new(&KERNEL)
        .tensors(&[x, weights.unwrap_or(&absent), y, second.unwrap_or(&unwritten)])
        .params(&Params {
            repeats: repeats as u32,
            period: period as u32,
            cells: shape.cells() as u32,
            chunk: chunk as u32,
            chunks: chunks as u32,
            group,
            group_stride: stride,
        })
        .constant("WEIGHTED", if weights.is_some() { 1.0 } else { 0.0 })
        .constant("ADDED", f64::from(added))
        .constant("PAIR", f64::from(second.is_some()))
        .groups((chunks * span).div_ceil(64))
        .flops(if weights.is_some() { 2.0 } else { 1.0 } * shape.elements() as f64)
        .run(ctx)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (x, weights) = (t.f32(0), t.f32(1));
    let weighted = t.flag("WEIGHTED");
    let places = Groups { group: p.group, stride: p.group_stride };
    let (period, stride) = (p.period as usize, 4 * p.cells as usize);
    let mut sums = vec![0f64; p.chunks as usize * period * stride];
    let pair = t.flag("PAIR");
    if t.flag("ADDED") {
        let held = t.f32(2).into_iter().chain(if pair { t.f32(3) } else { Vec::new() });
        sums = held.map(f64::from).collect();
    }
    for j in 0..p.repeats as usize {
        for n in 0..period {
            let row = j * period + n;
            let weight = if weighted { f64::from(weights[places.at(row)]) } else { 1.0 };
            if weight == 0.0 {
                continue;
            }
            let to = (j / p.chunk as usize * period + n) * stride;
            for c in 0..stride {
                sums[to + c] += weight * f64::from(x[row * stride + c]);
            }
        }
    }
    let mut sums: Vec<f32> = sums.into_iter().map(|v| v as f32).collect();
    if pair {
        t.put_f32(3, sums.split_off(stride));
    }
    t.put_f32(2, sums);
    Ok(())
}

/// (samples, tokens, width) and period for the parity test; weights are one per token.
#[must_use]
pub fn cases() -> Vec<Case> {
    [
        (1, 1, 1, 1, false),
        (3, 5, 7, 5, true),
        (3, 5, 7, 5, false),
        (3, 5, 9, 1, true),
        (70, 3, 6, 3, true),
        (41, 53, 4, 1, false),
        (41, 54, 7, 1, false),
        (2, 3, 5, 1, false),
        (33, 1, 257, 1, true),
        (2, 70_000, 61, 70_000, false),
        (300, 3, 6, 3, true),
    ]
    .into_iter()
    .map(|(b, n, w, period, weighted)| {
        let name = format!("{b}x{n}x{w} period {period} weighted {weighted}");
        Case::new(name, Tolerance::sum(b * n / period), move |ctx, storage| {
            let x = samples::normal(ctx, &[b, n, w], storage, 1)?;
            let weights = samples::mask(ctx, &[b, n], 0.7, 2)?;
            let held = samples::normal(ctx, &[period, w], DType::F32, 3)?;
            launch_into(ctx, &x, period, weighted.then_some(&weights), &held, true)?;
            let mut sums = vec![launch(ctx, &x, period, weighted.then_some(&weights))?, held];
            if period == 1 && b * n % 2 == 0 {
                let draw = |seed| samples::normal(ctx, &[w], DType::F32, seed);
                let (new, held) = ((draw(4)?, draw(5)?), (draw(6)?, draw(7)?));
                let pairs = x.reshape(&[b * n, w])?;
                launch_pair_into(ctx, &pairs, (&new.0, &new.1), false)?;
                launch_pair_into(ctx, &pairs, (&held.0, &held.1), true)?;
                sums.extend([new.0, new.1, held.0, held.1]);
            }
            Ok(sums)
        })
    })
    .collect()
}

/// Mistakes that the cases must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "sum += floats(y[index]);", replace: "" },
    Fault { find: "sum += floats(second[index - p.cells]);", replace: "" },
    Fault { find: "PAIR && n == 1u", replace: "PAIR && n == 2u" },
    Fault { find: "(row / p.group) * p.group_stride + row % p.group", replace: "row" },
    Fault { find: "let first = part * p.chunk;", replace: "let first = part * p.chunk + 1u;" },
    Fault { find: "weighted(j * p.period + column / p.cells, v)", replace: "weighted(j, v)" },
    Fault { find: "term(j + 3u, column, span)", replace: "term(j + 2u, column, span)" },
];

#[cfg(test)]
mod tests {
    use super::chunks_for;

    #[test]
    fn chunks_cover_all_repeats_and_end() {
        let mut failed = Vec::new();
        for repeats in [1, 2, 31, 32, 33, 47, 48, 49, 64, 1000, 4099, 100_000, 1_000_003] {
            for (span, software) in [1, 3, 192, 65_536, 1_000_000].into_iter().flat_map(|s| [(s, false), (s, true)]) {
                let (chunk, count) = chunks_for(software, repeats, span);
                let covers = chunk * count >= repeats && chunk * (count - 1) < repeats;
                let shrinks = count == 1 || count * 2 < repeats;
                if !covers || !shrinks {
                    failed.push((repeats, span, software, chunk, count));
                }
            }
        }
        assert!(failed.is_empty(), "(repeats, span, software, chunk, chunks): {failed:?}");
    }
}
