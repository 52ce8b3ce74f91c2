//! Transposed patch convolution: kernel = stride. Also the gradient of patch_conv's input.

use bytemuck::{Pod, Zeroable};

use super::matmul::{Batched, Tiles};
use super::matmul_images::Operand;
use super::patch_conv::{Patches, SIZES};
use super::patch_conv_transposed_any;
use crate::device::{Binding, Context, Epilogue, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// `image[b, c, y p + i, x p + j] = sum over d of t[b,n,d] W[d,c,i,j] + bias[c]`, p a multiple of 4.
pub static KERNEL: Kernel = Kernel {
    name: "patch_conv_transposed",
    source: include_str!("../../shaders/patch_conv_transposed.wgsl"),
    parts: &[Part::Grid, Part::Loads, Part::Tile],
    bindings: &[
        Binding::stored("tokens"),
        Binding::stored("weight"),
        Binding::stored("bias"),
        Binding::stored_mut("image"),
    ],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    columns: u32,
    inner: u32,
    row_tiles: u32,
    column_tiles: u32,
    channels: u32,
    size: u32,
    side: u32,
    across: u32,
    down: u32,
}

/// tokens (B, N, D) with N a square, weight (D, C, p, p), bias (C) -> image (B, C, S, S), S = p sqrt(N).
///
/// # Errors
/// `Error::Shape` when the shapes do not fit.
pub fn launch(ctx: &Context, tokens: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let g = geometry(tokens, weight, bias)?;
    let image = Tensor::empty(ctx, &[g.samples, g.channels, g.size, g.size], tokens.dtype())?;
    let bound = bias.map_or_else(|| Tensor::empty(ctx, &[4], tokens.dtype()), |bias| Ok(bias.clone()))?;
    if !g.side.is_multiple_of(4) {
        patch_conv_transposed_any::launch(ctx, &g, [tokens, weight, &bound, &image], bias.is_some())?;
        return Ok(image);
    }
    let (rows, columns) = (g.samples * g.tokens(), g.pixels() / 4);
    let epilogue = bias.map_or(Epilogue::None, |bias| Epilogue::BiasChannel(bias));
    let m = Batched { rows, width: g.pixels(), inner: g.width, ..Batched::default() };
    let m = Batched { a_row: tokens.shape().cells(), b_row: columns, ..m };
    if g.as_product(ctx, Operand::C, m, [tokens, weight, &image], epilogue)? {
        return Ok(image);
    }
    let tiles = Tiles::new(ctx, rows, columns);
    let params = Params {
        rows: rows as u32,
        columns: columns as u32,
        inner: g.width as u32,
        row_tiles: tiles.rows as u32,
        column_tiles: tiles.columns as u32,
        channels: g.channels as u32,
        size: g.size as u32,
        side: g.side as u32,
        across: g.across() as u32,
        down: g.across() as u32,
    };
    tiles
        .constants(Launch::new(&KERNEL).tensors(&[tokens, weight, &bound, &image]))
        .constant("BIAS", f64::from(bias.is_some()))
        .params(&params)
        .groups(tiles.rows * tiles.columns)
        .flops(g.flops())
        .run(ctx)?;
    Ok(image)
}

fn geometry(tokens: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Patches> {
    let expected = "tokens (B, N, D) with N a square, weight (D, C, p, p), bias (C)";
    let got = || format!("{}, {}, {:?}", tokens.shape(), weight.shape(), bias.map(Tensor::shape));
    let (&[samples, n, d], &[width, channels, side, _]) = (tokens.dims(), weight.dims()) else {
        return Err(Error::shape("patch_conv_transposed", expected, got()));
    };
    let size = n.isqrt() * side;
    let g = Patches::new(&[samples, channels, size, size], weight.dims())?;
    if g.tokens() != n || width != d || bias.is_some_and(|bias| bias.dims() != [channels]) {
        return Err(Error::shape("patch_conv_transposed", expected, got()));
    }
    Ok(g)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let g = Patches {
        samples: (p.rows / (p.across * p.down)) as usize,
        channels: p.channels as usize,
        size: p.size as usize,
        side: p.side as usize,
        width: p.inner as usize,
    };
    image_twin(t, &g);
    Ok(())
}

/// The formula, for both kernels.
pub(super) fn image_twin(t: &mut Twin<'_>, g: &Patches) {
    let (tokens, weight) = (t.f32(0), t.f32(1));
    let bias = if t.flag("BIAS") { t.f32(2) } else { vec![0.0; g.channels] };
    let (line, weight_line) = (g.size.next_multiple_of(4), g.side.next_multiple_of(4));
    let mut image = vec![0.0; g.samples * g.channels * g.size * line];
    for b in 0..g.samples {
        for c in 0..g.channels {
            for y in 0..g.size {
                for x in 0..g.size {
                    let token = (b * g.tokens() + y / g.side * g.across() + x / g.side) * g.width.next_multiple_of(4);
                    let sum: f64 = (0..g.width)
                        .map(|d| {
                            let w = ((d * g.channels + c) * g.side + y % g.side) * weight_line + x % g.side;
                            f64::from(tokens[token + d]) * f64::from(weight[w])
                        })
                        .sum();
                    image[((b * g.channels + c) * g.size + y) * line + x] = (sum + f64::from(bias[c])) as f32;
                }
            }
        }
    }
    t.put_f32(3, image);
}

/// patch_conv's sizes with (`whole`) or without patches of whole cells; every third without a bias.
pub(super) fn image_cases(whole: bool) -> Vec<Case> {
    let wanted = SIZES.into_iter().filter(|(_, _, _, p, _)| p.is_multiple_of(4) == whole).enumerate();
    wanted
        .map(|(number, (b, c, s, p, d))| {
            let n = (s / p) * (s / p);
            Case::new(format!("{b}x{n}x{d} to {c}x{s}x{s} patch {p}"), Tolerance::sum(d), move |ctx, dtype| {
                let tokens = samples::normal(ctx, &[b, n, d], dtype, 1)?;
                let weight = samples::normal(ctx, &[d, c, p, p], dtype, 2)?;
                let bias = samples::normal(ctx, &[c], dtype, 3)?;
                Ok(vec![launch(ctx, &tokens, &weight, (number % 3 != 1).then_some(&bias))?])
            })
        })
        .collect()
}

/// Patches of whole cells, more and fewer than a tile.
#[must_use]
pub fn cases() -> Vec<Case> {
    image_cases(true)
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "n / p.across * p.side + line % p.side", replace: "n / p.across * p.side + line / p.side" },
    Fault { find: "[line / p.side % 4u]", replace: "[0u]" },
    Fault { find: "store_row(row + 3u,", replace: "store_row(row + 2u," },
];
