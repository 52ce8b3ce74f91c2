//! Patch convolution: kernel = stride.

use bytemuck::{Pod, Zeroable};

use super::matmul::{Batched, Matmul, Tiles};
use super::matmul_images::{self, Images, Operand};
use crate::device::{Binding, Context, Epilogue, EpilogueKind, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// `t[b,n,:] = sum over (c,i,j) of image[b, c, y p + i, x p + j] W[:,c,i,j]`, plus a bias.
pub static KERNEL: Kernel = Kernel {
    name: "patch_conv",
    source: include_str!("../../shaders/patch_conv.wgsl"),
    parts: &[Part::Grid, Part::Loads, Part::Tile, Part::Gelu],
    bindings: &[Binding::stored("image"), Binding::stored("weight"), Binding::output_mut("c")],
    epilogues: true,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    width: u32,
    row_tiles: u32,
    column_tiles: u32,
    channels: u32,
    size: u32,
    side: u32,
    across: u32,
    down: u32,
    row_cells: u32,
    image_cells: u32,
}

/// Sizes of a patch convolution: images (B, C, S, S), weight (D, C, p, p), tokens (B, N, D) with N = (S/p)^2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patches {
    /// B.
    pub samples: usize,
    /// C.
    pub channels: usize,
    /// S, in pixels.
    pub size: usize,
    /// p, in pixels.
    pub side: usize,
    /// D.
    pub width: usize,
}

impl Patches {
    /// From the shapes of the images and the weight.
    ///
    /// # Errors
    /// `Error::Shape` unless images and patches are square, the channels agree and p divides S.
    pub fn new(image: &[usize], weight: &[usize]) -> Result<Self> {
        match (image, weight) {
            (&[samples, channels, size, size_y], &[width, channels_w, side, side_y])
                if size == size_y && side == side_y && channels == channels_w && size.is_multiple_of(side) =>
            {
                Ok(Self { samples, channels, size, side, width })
            }
            _ => Err(Error::shape(
                "patch_conv",
                "images (B, C, S, S) and weight (D, C, p, p) with S a multiple of p",
                format!("{image:?} and {weight:?}"),
            )),
        }
    }

    /// S / p.
    #[must_use]
    pub const fn across(&self) -> usize {
        self.size / self.side
    }

    /// N, tokens of one image.
    #[must_use]
    pub const fn tokens(&self) -> usize {
        self.across() * self.across()
    }

    /// C p p, values of one patch.
    #[must_use]
    pub const fn pixels(&self) -> usize {
        self.channels * self.side * self.side
    }

    /// Multiply-adds twice.
    #[must_use]
    pub fn flops(&self) -> f64 {
        2.0 * (self.samples * self.tokens()) as f64 * self.width as f64 * self.pixels() as f64
    }

    /// Runs a convolution as a product whose matrix `of` lies in these images, where cells are whole and the plan's kernel
    /// knows images: else `false`.
    pub(super) fn as_product(
        &self,
        ctx: &Context,
        of: Operand,
        m: Batched,
        tensors: [&Tensor; 3],
        epilogue: Epilogue<'_>,
    ) -> Result<bool> {
        if !self.side.is_multiple_of(4) {
            return Ok(false);
        }
        let images = Images { of, channels: self.channels, side: self.side, across: self.across() };
        matmul_images::launch(ctx, &Batched { batches: 1, images: Some(images), ..m }, tensors, epilogue)
    }
}

/// image (B, C, S, S), weight (D, C, p, p), bias (D) -> tokens (B, N, D), row-major over the patches.
///
/// # Errors
/// `Error::Shape` when the shapes do not fit.
pub fn launch(ctx: &Context, image: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let g = Patches::new(image.dims(), weight.dims())?;
    if let Some(bias) = bias
        && bias.dims() != [g.width]
    {
        return Err(Error::shape("patch_conv", format!("bias ({})", g.width), bias.shape()));
    }
    let tokens = Tensor::empty(ctx, &[g.samples, g.tokens(), g.width], image.dtype())?;
    let epilogue = bias.map_or(Epilogue::None, |bias| Epilogue::Bias(bias));
    let rows = g.samples * g.tokens();
    let cells = tokens.shape().cells();
    let form = Matmul { trans_a: false, trans_b: true };
    let m = Batched { form, rows, width: g.width, inner: g.pixels(), ..Batched::default() };
    let m = Batched { b_row: g.pixels() / 4, c_row: cells, ..m };
    if g.as_product(ctx, Operand::A, m, [image, weight, &tokens], epilogue)? {
        return Ok(tokens);
    }
    let tiles = Tiles::new(ctx, rows, cells);
    let params = Params {
        rows: rows as u32,
        width: g.width as u32,
        row_tiles: tiles.rows as u32,
        column_tiles: tiles.columns as u32,
        channels: g.channels as u32,
        size: g.size as u32,
        side: g.side as u32,
        across: g.across() as u32,
        down: g.across() as u32,
        row_cells: image.shape().cells() as u32,
        image_cells: (image.shape().stored() / 4) as u32,
    };
    tiles
        .constants(Launch::new(&KERNEL).tensors(&[image, weight, &tokens]).epilogue(epilogue))
        .constant("ALIGNED", f64::from(g.side.is_multiple_of(4)))
        .params(&params)
        .groups(tiles.rows * tiles.columns)
        .flops(g.flops())
        .run(ctx)?;
    Ok(tokens)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (image, weight) = (t.f32(0), t.f32(1));
    let bias = if t.epilogue() == EpilogueKind::Bias { t.f32(3) } else { vec![0.0; p.width as usize] };
    let [rows, width, channels, size, side, across, down] =
        [p.rows, p.width, p.channels, p.size, p.side, p.across, p.down].map(|x| x as usize);
    let (line, weight_line) = (size.next_multiple_of(4), side.next_multiple_of(4));
    let mut tokens = vec![0.0; rows * width.next_multiple_of(4)];
    for row in 0..rows {
        let (b, n) = (row / (across * down), row % (across * down));
        let (y, x) = (n / across, n % across);
        for d in 0..width {
            let mut sum = f64::from(bias[d]);
            for c in 0..channels {
                for i in 0..side {
                    let from = ((b * channels + c) * size + y * side + i) * line + x * side;
                    let with = ((d * channels + c) * side + i) * weight_line;
                    sum += (0..side).map(|j| f64::from(image[from + j]) * f64::from(weight[with + j])).sum::<f64>();
                }
            }
            tokens[row * width.next_multiple_of(4) + d] = sum as f32;
        }
    }
    t.put_f32(2, tokens);
    Ok(())
}

/// Samples, channels, image size, patch side, width: patches of whole and of broken cells, more and fewer than a tile.
pub(super) const SIZES: [(usize, usize, usize, usize, usize); 8] = [
    (1, 1, 1, 1, 1),
    (2, 3, 8, 4, 5),
    (3, 1, 20, 4, 17),
    (1, 3, 16, 8, 66),
    (2, 2, 6, 2, 9),
    (1, 3, 9, 3, 7),
    (2, 1, 14, 7, 33),
    (1, 2, 5, 1, 3),
];

/// Whole and broken cells, with and without a bias.
#[must_use]
pub fn cases() -> Vec<Case> {
    SIZES
        .into_iter()
        .enumerate()
        .map(|(number, (b, c, s, p, d))| {
            Case::new(format!("{b}x{c}x{s}x{s} patch {p} width {d}"), Tolerance::sum(c * p * p), move |ctx, dtype| {
                let image = samples::normal(ctx, &[b, c, s, s], dtype, 1)?;
                let weight = samples::normal(ctx, &[d, c, p, p], dtype, 2)?;
                let bias = samples::normal(ctx, &[d], dtype, 3)?;
                Ok(vec![launch(ctx, &image, &weight, (number % 3 != 2).then_some(&bias))?])
            })
        })
        .collect()
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "n % p.across * p.side", replace: "n / p.across * p.side" },
    Fault { find: "c * p.size + i", replace: "c * p.side + i" },
    Fault { find: "vec4(low.zw, high.xy)", replace: "vec4(low.zw, high.zw)" },
    Fault { find: "< vec4(p.width)", replace: "<= vec4(p.width)" },
];
