//! Gradient of the weight of patch_conv and of patch_conv_transposed.

use bytemuck::{Pod, Zeroable};

use super::matmul::{Batched, Matmul, Tiles};
use super::matmul_images::Operand;
use super::patch_conv::{Patches, SIZES};
use crate::device::{Binding, Context, Epilogue, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, column_sum, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `dW[d,c,i,j] = sum over (b,n) of t[b,n,d] image[b, c, y p + i, x p + j]`.
pub static KERNEL: Kernel = Kernel {
    name: "patch_conv_weight",
    source: include_str!("../../shaders/patch_conv_weight.wgsl"),
    parts: &[Part::Grid, Part::Loads, Part::Tile],
    bindings: &[Binding::stored("tokens"), Binding::stored("image"), Binding::f32_mut("weight")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    columns: u32,
    row_tiles: u32,
    column_tiles: u32,
    parts: u32,
    samples: u32,
    channels: u32,
    size: u32,
    side: u32,
    across: u32,
    down: u32,
    row_cells: u32,
    image_cells: u32,
}

/// tokens (B, N, D) and image (B, C, S, S), one of them a gradient -> dW F32 (D, C, p, p) with p = `side`.
///
/// # Errors
/// `Error::Shape` when the shapes do not fit.
pub fn launch(ctx: &Context, tokens: &Tensor, image: &Tensor, side: usize) -> Result<Tensor> {
    let weight = Tensor::empty(ctx, &dims(tokens, image, side), DType::F32)?;
    launch_into(ctx, tokens, image, side, &weight, None)?;
    Ok(weight)
}

/// [`launch`] into given memory, F32 (D, C, p, p), and the sums of all tokens into `sums`, F32 (D): the gradient of the bias where
/// tokens are the one of the output. Both come out of one launch where the convolution is a product.
///
/// # Errors
/// As [`launch`].
pub fn launch_into(
    ctx: &Context,
    tokens: &Tensor,
    image: &Tensor,
    side: usize,
    weight: &Tensor,
    sums: Option<&Tensor>,
) -> Result<()> {
    let g = geometry(tokens, image, side, 1, weight)?;
    let form = Matmul { trans_a: true, trans_b: false };
    let m = Batched { form, rows: g.width, width: g.pixels(), inner: tokens.shape().rows(), ..Batched::default() };
    let m = Batched { a_row: tokens.shape().cells(), c_row: g.pixels() / 4, ..m };
    let epilogue = sums.map_or(Epilogue::None, |sums| Epilogue::RowSums { sums, added: false });
    if g.as_product(ctx, Operand::B, m, [tokens, image, weight], epilogue)? {
        return Ok(());
    }
    partial(ctx, tokens, image, side, 1, weight)?;
    sums.map_or(Ok(()), |sums| column_sum::launch_into(ctx, tokens, 1, None, sums, false))
}

fn dims(tokens: &Tensor, image: &Tensor, side: usize) -> [usize; 4] {
    [tokens.shape().last(), image.dims().get(1).copied().unwrap_or(1), side, side]
}

/// The sizes of a gradient in so many parts, which must fit.
fn geometry(tokens: &Tensor, image: &Tensor, side: usize, parts: usize, weight: &Tensor) -> Result<Patches> {
    let (&[samples, n, width], &[_, channels, _, _]) = (tokens.dims(), image.dims()) else {
        let got = format!("{}, {}", tokens.shape(), image.shape());
        return Err(Error::shape("patch_conv_weight", "tokens (B, N, D), image (B, C, S, S)", got));
    };
    let g = Patches::new(image.dims(), &[width, channels, side, side])?;
    if (g.samples, g.tokens()) != (samples, n) {
        let expected = format!("tokens ({}, {}, D)", g.samples, g.tokens());
        return Err(Error::shape("patch_conv_weight", expected, tokens.shape()));
    }
    if weight.shape().elements() != parts * width * channels * side * side || weight.shape().last() != side {
        let expected = format!("dW ({width}, {channels}, {side}, {side})");
        return Err(Error::shape("patch_conv_weight", expected, weight.shape()));
    }
    Ok(g)
}

/// This kernel's own gradient, with the samples cut into `parts`: (parts, D, C p, p) for parts > 1, to be summed over the first
/// axis.
fn partial(ctx: &Context, tokens: &Tensor, image: &Tensor, side: usize, parts: usize, weight: &Tensor) -> Result<()> {
    let g = geometry(tokens, image, side, parts, weight)?;
    let Patches { samples, channels, width, .. } = g;
    let columns = channels * side * side.div_ceil(4);
    let tiles = Tiles::new(ctx, width, columns);
    let params = Params {
        rows: width as u32,
        columns: columns as u32,
        row_tiles: tiles.rows as u32,
        column_tiles: tiles.columns as u32,
        parts: parts as u32,
        samples: samples as u32,
        channels: channels as u32,
        size: g.size as u32,
        side: side as u32,
        across: g.across() as u32,
        down: g.across() as u32,
        row_cells: image.shape().cells() as u32,
        image_cells: (image.shape().stored() / 4) as u32,
    };
    tiles
        .constants(Launch::new(&KERNEL).tensors(&[tokens, image, weight]))
        .constant("ALIGNED", f64::from(side.is_multiple_of(4)))
        .params(&params)
        .groups(tiles.rows * tiles.columns * parts)
        .flops(g.flops())
        .run(ctx)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (tokens, image) = (t.f32(0), t.f32(1));
    let [width, parts, samples, channels, size, side, across] =
        [p.rows, p.parts, p.samples, p.channels, p.size, p.side, p.across].map(|x| x as usize);
    let (line, weight_line) = (size.next_multiple_of(4), side.next_multiple_of(4));
    let each = samples.div_ceil(parts);
    let mut weight = vec![0.0; parts * width * channels * side * weight_line];
    for (row, cells) in weight.chunks_mut(weight_line).enumerate() {
        let (i, c, d) = (row % side, row / side % channels, row / side / channels % width);
        let part = row / side / channels / width;
        for (j, to) in cells.iter_mut().take(side).enumerate() {
            let mut sum = 0.0;
            for b in (part * each).min(samples)..((part + 1) * each).min(samples) {
                for n in 0..across * across {
                    let (y, x) = (n / across * side + i, n % across * side + j);
                    let token = tokens[(b * across * across + n) * width.next_multiple_of(4) + d];
                    sum += f64::from(token) * f64::from(image[((b * channels + c) * size + y) * line + x]);
                }
            }
            *to = sum as f32;
        }
    }
    t.put_f32(2, weight);
    Ok(())
}

/// patch_conv's sizes; samples in one part and in several, some of them empty.
#[must_use]
pub fn cases() -> Vec<Case> {
    SIZES
        .into_iter()
        .zip([1, 2, 2, 1, 1, 3, 1, 1])
        .map(|((b, c, s, p, d), parts)| {
            let n = (s / p) * (s / p);
            let label = format!("{b}x{n}x{d} and {c}x{s}x{s} patch {p} parts {parts}");
            Case::new(label, Tolerance::sum(b * n), move |ctx, dtype| {
                let tokens = samples::normal(ctx, &[b, n, d], dtype, 1)?;
                let image = samples::normal(ctx, &[b, c, s, s], dtype, 2)?;
                let [d, c, ..] = dims(&tokens, &image, p);
                let shape = if parts == 1 { [d, c, p, p] } else { [parts, d, c * p, p] };
                let (weight, sums) = (Tensor::empty(ctx, &shape, DType::F32)?, Tensor::empty(ctx, &[d], DType::F32)?);
                if parts == 1 {
                    launch_into(ctx, &tokens, &image, p, &weight, Some(&sums))?;
                    return Ok(vec![weight, sums]);
                }
                partial(ctx, &tokens, &image, p, parts, &weight)?;
                Ok(vec![weight])
            })
        })
        .collect()
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "pixels(start.y, offset) * live.y", replace: "pixels(start.y, offset)" },
    Fault { find: "(part * p.rows + row)", replace: "row" },
    Fault { find: "place.z * p.channels", replace: "place.z" },
    Fault { find: "j < vec4(p.side)", replace: "j <= vec4(p.side)" },
];
