//! Transposed patch convolution for patches that are not made of whole cells.

use bytemuck::{Pod, Zeroable};

use super::patch_conv::Patches;
use super::patch_conv_transposed::{image_cases, image_twin};
use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::Result;
use crate::kernels::{Case, Fault};
use crate::tensor::Tensor;

/// `image[b, c, y p + i, x p + j] = sum over d of t[b,n,d] W[d,c,i,j] + bias[c]`, every p.
pub static KERNEL: Kernel = Kernel {
    name: "patch_conv_transposed_any",
    source: include_str!("../../shaders/patch_conv_transposed_any.wgsl"),
    parts: &[Part::Grid],
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
    cells: u32,
    inner: u32,
    channels: u32,
    size: u32,
    side: u32,
    across: u32,
    down: u32,
}

/// `patch_conv_transposed` calls this with checked shapes: tokens, weight, bias, image.
///
/// # Errors
/// What the launch reports.
pub fn launch(ctx: &Context, g: &Patches, tensors: [&Tensor; 4], biased: bool) -> Result<()> {
    let [tokens, weight, bias, image] = tensors;
    let cells = image.shape().stored() / 4;
    let params = Params {
        cells: cells as u32,
        inner: g.width as u32,
        channels: g.channels as u32,
        size: g.size as u32,
        side: g.side as u32,
        across: g.across() as u32,
        down: g.across() as u32,
    };
    Launch::new(&KERNEL)
        .tensors(&[tokens, weight, bias, image])
        .constant("BIAS", f64::from(biased))
        .params(&params)
        .groups(cells.div_ceil(64))
        .flops(g.flops())
        .run(ctx)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let planes = p.cells / (p.size * p.size.div_ceil(4));
    let g = Patches {
        samples: (planes / p.channels) as usize,
        channels: p.channels as usize,
        size: p.size as usize,
        side: p.side as usize,
        width: p.inner as usize,
    };
    image_twin(t, &g);
    Ok(())
}

/// Patches of broken cells.
#[must_use]
pub fn cases() -> Vec<Case> {
    image_cases(false)
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "if (x >= p.size) { return 0.0; }", replace: "" },
    Fault { find: "+ x / p.side", replace: "+ y / p.side" },
    Fault { find: "let j = x % p.side", replace: "let j = 0u * x" },
];
