//! General two-dimensional convolution.

use bytemuck::{Pod, Zeroable};

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// `y[b,o,r,q] = bias[o] + sum over (c,i,j) of x[b, c, r s + i - P, q s + j - P] W[o,c,i,j]`.
pub static KERNEL: Kernel = Kernel {
    name: "conv2d",
    source: include_str!("../../shaders/conv2d.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("x"), Binding::stored("weight"), Binding::stored("bias"), Binding::stored_mut("y")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct Params {
    pub cells: u32,
    pub channels: u32,
    pub height: u32,
    pub width: u32,
    pub out_channels: u32,
    pub out_height: u32,
    pub out_width: u32,
    pub kernel_height: u32,
    pub kernel_width: u32,
    pub stride: u32,
    pub padding: u32,
}

/// Steps of the window and rows of zeros around the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Pixels from one position to the next, at least 1.
    pub stride: usize,
    /// Zeros on every side.
    pub padding: usize,
}

impl Window {
    /// Positions along an axis of `length` pixels; `None` when the kernel does not fit.
    #[must_use]
    pub fn positions(&self, length: usize, kernel: usize) -> Option<usize> {
        if self.stride == 0 || kernel == 0 {
            return None;
        }
        (length + 2 * self.padding).checked_sub(kernel).map(|room| room / self.stride + 1)
    }
}

/// x (B, C, H, W), weight (O, C, h, w), bias (O) -> (B, O, (H + 2 P - h) / s + 1, (W + 2 P - w) / s + 1).
///
/// # Errors
/// `Error::Shape` when the shapes do not fit or the kernel is larger than the padded image.
pub fn launch(ctx: &Context, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>, window: Window) -> Result<Tensor> {
    let shapes = || format!("{}, {}, {:?}, {window:?}", x.shape(), weight.shape(), bias.map(Tensor::shape));
    let wrong = || Error::shape("conv2d", "x (B, C, H, W), weight (O, C, h, w) that fits inside, bias (O)", shapes());
    let (&[samples, channels, height, width], &[out, channels_w, kernel_height, kernel_width]) =
        (x.dims(), weight.dims())
    else {
        return Err(wrong());
    };
    let out_height = window.positions(height, kernel_height).ok_or_else(wrong)?;
    let out_width = window.positions(width, kernel_width).ok_or_else(wrong)?;
    if channels != channels_w || bias.is_some_and(|bias| bias.dims() != [out]) {
        return Err(wrong());
    }
    let y = Tensor::empty(ctx, &[samples, out, out_height, out_width], x.dtype())?;
    let bound = bias.map_or_else(|| Tensor::zeros(ctx, &[out], x.dtype()), |bias| Ok(bias.clone()))?;
    let params = params(&y, x, [kernel_height, kernel_width], window);
    Launch::new(&KERNEL)
        .tensors(&[x, weight, &bound, &y])
        .params(&params)
        .groups((params.cells as usize).div_ceil(64))
        .flops(2.0 * y.shape().elements() as f64 * (channels * kernel_height * kernel_width) as f64)
        .run(ctx)?;
    Ok(y)
}

/// Parameters of a launch that owns the cells of `y` and reads `x`, both (B, channels, height, width).
pub(super) fn params(y: &Tensor, x: &Tensor, kernel: [usize; 2], window: Window) -> Params {
    let at = |t: &Tensor, axis: usize| t.dims().get(axis).copied().unwrap_or(1) as u32;
    Params {
        cells: (y.shape().stored() / 4) as u32,
        channels: at(x, 1),
        height: at(x, 2),
        width: at(x, 3),
        out_channels: at(y, 1),
        out_height: at(y, 2),
        out_width: at(y, 3),
        kernel_height: kernel[0] as u32,
        kernel_width: kernel[1] as u32,
        stride: window.stride as u32,
        padding: window.padding as u32,
    }
}

/// A tensor of four axes as plain numbers, for the twins.
pub(super) struct Planes {
    values: Vec<f32>,
    dims: [usize; 3],
}

impl Planes {
    /// `dims`: the last three axes.
    pub fn new(values: Vec<f32>, dims: [u32; 3]) -> Self {
        Self { values, dims: dims.map(|d| d as usize) }
    }

    /// One value; zero outside the plane.
    pub fn at(&self, b: usize, c: usize, y: i64, x: i64) -> f64 {
        let [channels, height, width] = self.dims;
        if y < 0 || x < 0 || y >= height as i64 || x >= width as i64 {
            return 0.0;
        }
        let row = (b * channels + c) * height + y as usize;
        f64::from(self.values[row * width.next_multiple_of(4) + x as usize])
    }

    /// A tensor of these axes whose elements are `f(b, c, y, x)`, padding zero; `count` elements in memory.
    pub fn fill(count: usize, dims: [u32; 3], f: impl Fn(usize, usize, usize, usize) -> f64) -> Vec<f32> {
        let [channels, height, width] = dims.map(|d| d as usize);
        let stride = width.next_multiple_of(4);
        let element = |i: usize| {
            let (row, x) = (i / stride, i % stride);
            let (b, c, y) = (row / height / channels, row / height % channels, row % height);
            if x < width { f(b, c, y, x) as f32 } else { 0.0 }
        };
        (0..count).map(element).collect()
    }
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let x = Planes::new(t.f32(0), [p.channels, p.height, p.width]);
    let weight = Planes::new(t.f32(1), [p.channels, p.kernel_height, p.kernel_width]);
    let bias = t.f32(2);
    let (stride, padding) = (i64::from(p.stride), i64::from(p.padding));
    let y = Planes::fill(4 * p.cells as usize, [p.out_channels, p.out_height, p.out_width], |b, o, r, q| {
        let mut sum = f64::from(bias[o]);
        for c in 0..p.channels as usize {
            for i in 0..i64::from(p.kernel_height) {
                for j in 0..i64::from(p.kernel_width) {
                    let value = x.at(b, c, r as i64 * stride + i - padding, q as i64 * stride + j - padding);
                    sum += value * weight.at(o, c, i, j);
                }
            }
        }
        sum
    });
    t.put_f32(3, y);
    Ok(())
}

/// Sizes of a case: samples, input channels, output channels, image, kernel, window.
pub(super) type Size = (usize, usize, usize, [usize; 2], [usize; 2], Window);

/// For all three convolution kernels: the sizes are those of the forward direction.
pub(super) const SIZES: [Size; 7] = [
    (1, 1, 1, [1, 1], [1, 1], Window { stride: 1, padding: 0 }),
    (2, 3, 5, [7, 6], [3, 3], Window { stride: 1, padding: 1 }),
    (1, 2, 4, [9, 11], [3, 2], Window { stride: 2, padding: 0 }),
    (2, 4, 3, [8, 8], [4, 4], Window { stride: 4, padding: 0 }),
    (1, 5, 2, [6, 13], [1, 5], Window { stride: 1, padding: 2 }),
    (3, 1, 6, [10, 10], [5, 5], Window { stride: 3, padding: 2 }),
    (1, 3, 7, [33, 8], [2, 2], Window { stride: 2, padding: 1 }),
];

/// Strides, paddings, kernels wider than a cell and images narrower than one.
#[must_use]
pub fn cases() -> Vec<Case> {
    SIZES
        .into_iter()
        .enumerate()
        .map(|(number, (b, c, o, [h, w], [kh, kw], window))| {
            let label = format!("{b}x{c}x{h}x{w} to {o}, kernel {kh}x{kw}, {window:?}");
            Case::new(label, Tolerance::sum(c * kh * kw), move |ctx, dtype| {
                let x = samples::normal(ctx, &[b, c, h, w], dtype, 1)?;
                let weight = samples::normal(ctx, &[o, c, kh, kw], dtype, 2)?;
                let bias = samples::normal(ctx, &[o], dtype, 3)?;
                Ok(vec![launch(ctx, &x, &weight, (number % 3 != 2).then_some(&bias), window)?])
            })
        })
        .collect()
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "if (column >= p.width)", replace: "if (column > p.width)" },
    Fault { find: "- vec4(p.padding)", replace: "" },
    Fault { find: "if (row >= p.height) { continue; }", replace: "" },
    Fault { find: "column < vec4(p.out_width)", replace: "column <= vec4(p.out_width)" },
];
