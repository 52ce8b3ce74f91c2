//! General transposed convolution; without a bias also the gradient of conv2d's input.

use super::conv2d::{Params, Planes, SIZES, Window, params};
use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// `y[b,o,r,q] = bias[o] + sum over (c,i,j), u s + i - P = r, v s + j - P = q of x[b,c,u,v] W[c,o,i,j]`.
pub static KERNEL: Kernel = Kernel {
    name: "conv2d_transposed",
    source: include_str!("../../shaders/conv2d_transposed.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("x"), Binding::stored("weight"), Binding::stored("bias"), Binding::stored_mut("y")],
    epilogues: false,
    twin,
};

/// x (B, C, H, W), weight (C, O, h, w), bias (O) -> (B, O, H', W') with `size` = [H', W']: any size whose convolution with
/// this window has H x W positions, which is (H - 1) s - 2 P + h plus an output padding below s.
///
/// # Errors
/// `Error::Shape` when the shapes do not fit.
pub fn launch(
    ctx: &Context,
    x: &Tensor,
    weight: &Tensor,
    bias: Option<&Tensor>,
    window: Window,
    size: [usize; 2],
) -> Result<Tensor> {
    let (&[samples, channels, height, width], &[channels_w, out, kernel_height, kernel_width]) =
        (x.dims(), weight.dims())
    else {
        let got = format!("{}, {}", x.shape(), weight.shape());
        return Err(Error::shape("conv2d_transposed", "x (B, C, H, W), weight (C, O, h, w)", got));
    };
    let fits = window.positions(size[0], kernel_height) == Some(height)
        && window.positions(size[1], kernel_width) == Some(width);
    if channels != channels_w || !fits || bias.is_some_and(|bias| bias.dims() != [out]) {
        let got = format!("{}, {}, {:?} to {size:?}", x.shape(), weight.shape(), bias.map(Tensor::shape));
        let expected = format!("x (B, C, H, W), weight (C, O, h, w), bias (O), a size that {window:?} takes to (H, W)");
        return Err(Error::shape("conv2d_transposed", expected, got));
    }
    let y = Tensor::empty(ctx, &[samples, out, size[0], size[1]], x.dtype())?;
    let bound = bias.map_or_else(|| Tensor::zeros(ctx, &[out], x.dtype()), |bias| Ok(bias.clone()))?;
    let params = params(&y, x, [kernel_height, kernel_width], window);
    Launch::new(&KERNEL)
        .tensors(&[x, weight, &bound, &y])
        .params(&params)
        .groups((params.cells as usize).div_ceil(64))
        .flops(2.0 * x.shape().elements() as f64 * (out * kernel_height * kernel_width) as f64)
        .run(ctx)?;
    Ok(y)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let x = Planes::new(t.f32(0), [p.channels, p.height, p.width]);
    let weight = Planes::new(t.f32(1), [p.out_channels, p.kernel_height, p.kernel_width]);
    let bias = t.f32(2);
    let (stride, padding) = (i64::from(p.stride), i64::from(p.padding));
    let y = Planes::fill(4 * p.cells as usize, [p.out_channels, p.out_height, p.out_width], |b, o, r, q| {
        let mut sum = f64::from(bias[o]);
        for c in 0..p.channels as usize {
            for u in 0..i64::from(p.height) {
                for v in 0..i64::from(p.width) {
                    let (i, j) = (r as i64 - u * stride + padding, q as i64 - v * stride + padding);
                    sum += x.at(b, c, u, v) * weight.at(c, o, i, j);
                }
            }
        }
        sum
    });
    t.put_f32(3, y);
    Ok(())
}

/// conv2d's sizes backwards.
#[must_use]
pub fn cases() -> Vec<Case> {
    SIZES
        .into_iter()
        .enumerate()
        .map(|(number, (b, o, c, size, [kh, kw], window))| {
            let label = format!("{b}x{c} to {o}x{size:?}, kernel {kh}x{kw}, {window:?}");
            Case::new(label, Tolerance::sum(c * kh * kw), move |ctx, dtype| {
                let h = window.positions(size[0], kh).unwrap_or(1);
                let w = window.positions(size[1], kw).unwrap_or(1);
                let x = samples::normal(ctx, &[b, c, h, w], dtype, 1)?;
                let weight = samples::normal(ctx, &[c, o, kh, kw], dtype, 2)?;
                let bias = samples::normal(ctx, &[o], dtype, 3)?;
                Ok(vec![launch(ctx, &x, &weight, (number % 3 != 2).then_some(&bias), window, size)?])
            })
        })
        .collect()
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "ahead % p.stride != 0u || v >= p.width", replace: "v >= p.width" },
    Fault { find: "i > bottom || (bottom - i) % p.stride != 0u || ", replace: "" },
    Fault { find: "(c * p.out_channels + o)", replace: "(o * p.channels + c)" },
];
