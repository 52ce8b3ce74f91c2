//! Patch convolution and its transpose: forward, and all gradients of both.

use super::Shapes;
use crate::bench::case::{Case, Check, Make, Work};
use crate::device::Context;
use crate::error::Result;
use crate::kernels::{Tolerance, patch_conv, patch_conv_transposed, patch_conv_weight, samples};
use crate::shape::DType;

#[derive(Clone, Copy)]
enum Kind {
    /// Image to tokens, with bias: forward; without: the gradient of the transposed one's input.
    Conv { bias: bool },
    /// Tokens to image, with bias: forward; without: the gradient of the other one's input.
    Transposed { bias: bool },
    /// The gradient of the weights of either.
    Weight,
}

#[derive(Clone, Copy)]
struct Patches {
    kind: Kind,
    samples: usize,
    channels: usize,
    size: usize,
    side: usize,
    width: usize,
}

pub(super) fn cases(shapes: &Shapes) -> Vec<Case> {
    let kinds = [
        Kind::Conv { bias: true },
        Kind::Transposed { bias: false },
        Kind::Weight,
        Kind::Transposed { bias: true },
        Kind::Conv { bias: false },
    ];
    let (size, side) = shapes.image;
    let of = |kind| Patches { kind, samples: shapes.batch, channels: 3, size, side, width: shapes.width };
    kinds.into_iter().map(|kind| of(kind).case()).collect()
}

impl Patches {
    const fn across(&self) -> usize {
        self.size / self.side
    }

    const fn tokens(&self) -> usize {
        self.across() * self.across()
    }

    /// The same number of rows and columns of the product, so the same variant, but a short sum.
    fn reduced(self) -> Self {
        match self.kind {
            Kind::Conv { .. } => Self { channels: 1, size: 4 * self.across(), side: 4, ..self },
            Kind::Transposed { .. } => Self { width: 16, ..self },
            Kind::Weight => Self { samples: 2, size: 2 * self.side, ..self },
        }
    }

    fn case(self) -> Case {
        let Self { samples: b, channels: c, size: s, side: p, width: d, .. } = self;
        let (image, tokens, weights) = (b * c * s * s, b * self.tokens() * d, d * c * p * p);
        let (kernel, what, inner) = match self.kind {
            Kind::Conv { bias: true } => ("patch_conv", "forward", c * p * p),
            Kind::Conv { bias: false } => ("patch_conv", "gradient of tokens", c * p * p),
            Kind::Transposed { bias: true } => ("patch_conv_transposed", "forward", d),
            Kind::Transposed { bias: false } => ("patch_conv_transposed", "gradient of image", d),
            Kind::Weight => ("patch_conv_weight", "gradient of weights", b * self.tokens()),
        };
        let in_words = matches!(self.kind, Kind::Weight);
        let make: Make = Box::new(move |ctx, dtype, seed| self.work(ctx, dtype, seed));
        let reduced: Make = Box::new(move |ctx, dtype, seed| self.reduced().work(ctx, dtype, seed));
        Case {
            kernel,
            label: format!("{b}x{c}x{s}x{s} {}x{d} {what}", b * self.tokens()),
            flops: 2.0 * (tokens * c * p * p) as f64,
            stored: image + tokens + if in_words { 0 } else { weights },
            words: if in_words { weights } else { 0 },
            tolerance: Tolerance::sum(inner + 1),
            half_terms: 0.0,
            make,
            check: Check::Spots {
                reduced,
                expected: Box::new(move |inputs, _, element| self.expected(inputs, element)),
            },
        }
    }

    fn work(self, ctx: &Context, dtype: DType, seed: u64) -> Result<Work> {
        let Self { kind, samples: b, channels: c, size: s, side: p, width: d } = self;
        let image = |seed| samples::normal(ctx, &[b, c, s, s], dtype, seed);
        let tokens = |seed| samples::normal(ctx, &[b, self.tokens(), d], dtype, seed);
        let weight = samples::normal(ctx, &[d, c, p, p], dtype, 4 * seed + 1)?;
        let bias = |n: usize| samples::normal(ctx, &[n], dtype, 4 * seed + 2);
        Ok(match kind {
            Kind::Conv { bias: with } => {
                let (x, bias) = (image(4 * seed)?, bias(d)?);
                Work::new(&[&x.clone(), &weight.clone(), &bias.clone()], move |ctx| {
                    Ok(vec![patch_conv::launch(ctx, &x, &weight, with.then_some(&bias))?])
                })
            }
            Kind::Transposed { bias: with } => {
                let (x, bias) = (tokens(4 * seed)?, bias(c)?);
                Work::new(&[&x.clone(), &weight.clone(), &bias.clone()], move |ctx| {
                    Ok(vec![patch_conv_transposed::launch(ctx, &x, &weight, with.then_some(&bias))?])
                })
            }
            Kind::Weight => {
                let (t, x) = (tokens(4 * seed)?, image(4 * seed + 3)?);
                Work::new(&[&t.clone(), &x.clone()], move |ctx| Ok(vec![patch_conv_weight::launch(ctx, &t, &x, p)?]))
            }
        })
    }

    /// Pixel (i, j) of channel `c` in the patch of token `n` of sample `b`, as an element of the image.
    fn pixel(&self, b: usize, n: usize, c: usize, i: usize, j: usize) -> usize {
        let (y, x) = (n / self.across() * self.side + i, n % self.across() * self.side + j);
        ((b * self.channels + c) * self.size + y) * self.size + x
    }

    fn expected(self, inputs: &[Vec<f32>], element: usize) -> f64 {
        let Self { kind, samples, channels, size, side, width } = self;
        let value = |input: usize, at: usize| f64::from(inputs[input][at]);
        let weight = |d: usize, c: usize, i: usize, j: usize| ((d * channels + c) * side + i) * side + j;
        match kind {
            Kind::Conv { bias } => {
                let (d, n, b) = (element % width, element / width % self.tokens(), element / width / self.tokens());
                let place = |k: usize| (k / (side * side), k / side % side, k % side);
                let term = |k: usize| {
                    let (c, i, j) = place(k);
                    value(0, self.pixel(b, n, c, i, j)) * value(1, weight(d, c, i, j))
                };
                (0..channels * side * side).map(term).sum::<f64>() + if bias { value(2, d) } else { 0.0 }
            }
            Kind::Transposed { bias } => {
                let (x, y, plane) = (element % size, element / size % size, element / size / size);
                let (c, b) = (plane % channels, plane / channels);
                let n = y / side * self.across() + x / side;
                let term = |d: usize| {
                    value(0, (b * self.tokens() + n) * width + d) * value(1, weight(d, c, y % side, x % side))
                };
                (0..width).map(term).sum::<f64>() + if bias { value(2, c) } else { 0.0 }
            }
            Kind::Weight => {
                let (j, i, rest) = (element % side, element / side % side, element / side / side);
                let (c, d) = (rest % channels, rest / channels);
                let term = |row: usize| {
                    let (b, n) = (row / self.tokens(), row % self.tokens());
                    value(0, row * width + d) * value(1, self.pixel(b, n, c, i, j))
                };
                (0..samples * self.tokens()).map(term).sum()
            }
        }
    }
}
