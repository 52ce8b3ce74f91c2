//! Gradient of the weight of conv2d, and with exchanged roles of conv2d_transposed.

use bytemuck::{Pod, Zeroable};

use super::conv2d::{Planes, SIZES, Window};
use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `dW[o,c,i,j] = sum over (b,r,q) of g[b,o,r,q] x[b, c, r s + i - P, q s + j - P]`.
pub static KERNEL: Kernel = Kernel {
    name: "conv2d_weight",
    source: include_str!("../../shaders/conv2d_weight.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("x"), Binding::stored("grad"), Binding::f32_mut("weight")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    cells: u32,
    samples: u32,
    channels: u32,
    height: u32,
    width: u32,
    out_channels: u32,
    out_height: u32,
    out_width: u32,
    kernel_height: u32,
    kernel_width: u32,
    stride: u32,
    padding: u32,
}

/// x (B, C, H, W), the larger image, and grad (B, O, H', W'), one value per position of the window -> dW F32 (O, C, h, w)
/// with `kernel` = [h, w].
///
/// # Errors
/// `Error::Shape` when the shapes do not fit.
pub fn launch(ctx: &Context, x: &Tensor, grad: &Tensor, kernel: [usize; 2], window: Window) -> Result<Tensor> {
    let wrong = || {
        let got = format!("{}, {}", x.shape(), grad.shape());
        let expected =
            format!("x (B, C, H, W), a gradient (B, O, H', W') of its positions, kernel {kernel:?}, {window:?}");
        Error::shape("conv2d_weight", expected, got)
    };
    let (&[samples, channels, height, width], &[samples_g, out, out_height, out_width]) = (x.dims(), grad.dims())
    else {
        return Err(wrong());
    };
    let positions = [window.positions(height, kernel[0]), window.positions(width, kernel[1])];
    if samples != samples_g || positions != [Some(out_height), Some(out_width)] {
        return Err(wrong());
    }
    let weight = Tensor::empty(ctx, &[out, channels, kernel[0], kernel[1]], DType::F32)?;
    let cells = weight.shape().stored() / 4;
    let params = Params {
        cells: cells as u32,
        samples: samples as u32,
        channels: channels as u32,
        height: height as u32,
        width: width as u32,
        out_channels: out as u32,
        out_height: out_height as u32,
        out_width: out_width as u32,
        kernel_height: kernel[0] as u32,
        kernel_width: kernel[1] as u32,
        stride: window.stride as u32,
        padding: window.padding as u32,
    };
    Launch::new(&KERNEL)
        .tensors(&[x, grad, &weight])
        .params(&params)
        .groups(cells.div_ceil(64))
        .flops(2.0 * grad.shape().elements() as f64 * (channels * kernel[0] * kernel[1]) as f64)
        .run(ctx)?;
    Ok(weight)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let x = Planes::new(t.f32(0), [p.channels, p.height, p.width]);
    let grad = Planes::new(t.f32(1), [p.out_channels, p.out_height, p.out_width]);
    let (stride, padding) = (i64::from(p.stride), i64::from(p.padding));
    let weight = Planes::fill(4 * p.cells as usize, [p.channels, p.kernel_height, p.kernel_width], |o, c, i, j| {
        let mut sum = 0.0;
        for b in 0..p.samples as usize {
            for r in 0..i64::from(p.out_height) {
                for q in 0..i64::from(p.out_width) {
                    let value = x.at(b, c, r * stride + i as i64 - padding, q * stride + j as i64 - padding);
                    sum += grad.at(b, o, r, q) * value;
                }
            }
        }
        sum
    });
    t.put_f32(2, weight);
    Ok(())
}

/// conv2d's sizes.
#[must_use]
pub fn cases() -> Vec<Case> {
    SIZES
        .into_iter()
        .map(|(b, c, o, [h, w], kernel, window)| {
            let label = format!("{b}x{c}x{h}x{w} and {o}, kernel {kernel:?}, {window:?}");
            Case::new(label, Tolerance::sum(b * h * w), move |ctx, dtype| {
                let rows = window.positions(h, kernel[0]).unwrap_or(1);
                let columns = window.positions(w, kernel[1]).unwrap_or(1);
                let x = samples::normal(ctx, &[b, c, h, w], dtype, 1)?;
                let grad = samples::normal(ctx, &[b, o, rows, columns], dtype, 2)?;
                Ok(vec![launch(ctx, &x, &grad, kernel, window)?])
            })
        })
        .collect()
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "r * p.stride + i - p.padding", replace: "r * p.stride + i" },
    Fault { find: "line % p.out_height", replace: "line / p.samples" },
    Fault { find: "(sample * p.out_channels + o)", replace: "(sample + o)" },
];
