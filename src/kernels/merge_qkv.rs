//! The gradients of q, k and v back in the columns of their common linear layer.

use super::split_heads::SIZES;
use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// Invocations per workgroup, as in the shader.
const WORKGROUP: usize = 256;

/// `y[b,n, (part H + h) d + j] = x_part[b,h,n,j]` with `x_0, x_1, x_2 = q, k, v`.
pub static KERNEL: Kernel = Kernel {
    name: "merge_qkv",
    source: include_str!("../../shaders/merge_qkv.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("q"), Binding::stored("k"), Binding::stored("v"), Binding::stored_mut("y")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
    tokens: u32,
    heads: u32,
    width: u32,
    x_cells: u32,
    y_cells: u32,
}

/// `q`, `k` and `v`, each `(B, H, N, d)`, give `y (B, N, 3 H d)` of their element type: the gradient of the three launches
/// of `split_heads` with three parts.
///
/// # Errors
/// `Error::Shape` unless the three have four axes and one shape.
pub fn launch(ctx: &Context, q: &Tensor, k: &Tensor, v: &Tensor) -> Result<Tensor> {
    let &[samples, heads, tokens, width] = q.dims() else {
        return Err(Error::shape("merge_qkv", "q (B, H, N, d)", q.shape()));
    };
    if q.dims() != k.dims() || q.dims() != v.dims() {
        let got = format!("k {}, v {}", k.shape(), v.shape());
        return Err(Error::shape("merge_qkv", format!("k and v {}", q.shape()), got));
    }
    let y = Tensor::empty(ctx, &[samples, tokens, 3 * heads * width], q.dtype())?;
    let cells = y.shape().stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[q, k, v, &y])
        .params(&Params {
            cells: cells as u32,
            tokens: tokens as u32,
            heads: heads as u32,
            width: width as u32,
            x_cells: q.shape().cells() as u32,
            y_cells: y.shape().cells() as u32,
        })
        .groups(cells.div_ceil(WORKGROUP))
        .run(ctx)?;
    Ok(y)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (heads, tokens, width) = (p.heads as usize, p.tokens as usize, p.width as usize);
    let stride = 4 * p.x_cells as usize;
    let parts = [t.f32(0), t.f32(1), t.f32(2)];
    let mut y = Vec::with_capacity(4 * p.cells as usize);
    for b in 0..parts[0].len() / (heads * tokens * stride) {
        for n in 0..tokens {
            for x in &parts {
                for h in 0..heads {
                    let first = ((b * heads + h) * tokens + n) * stride;
                    y.extend(&x[first..first + width]);
                }
            }
            y.resize(y.len().next_multiple_of(4), 0.0);
        }
    }
    t.put_f32(3, y);
    Ok(())
}

/// Shapes of the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    SIZES
        .into_iter()
        .map(|[b, n, h, d]| {
            Case::new(format!("B {b} N {n} H {h} d {d}"), Tolerance::exact(), move |ctx, storage| {
                let part = |seed| samples::normal(ctx, &[b, h, n, d], storage, seed);
                Ok(vec![launch(ctx, &part(1)?, &part(2)?, &part(3)?)?])
            })
        })
        .collect()
}

/// Mistakes the parity test must find.
pub const FAULTS: &[Fault] = &[
    Fault { find: "return unpack4(k[i]);", replace: "return unpack4(q[i]);" },
    Fault { find: "head % p.heads) * p.tokens", replace: "head % p.heads + 1u) * p.tokens" },
    Fault { find: "element(token, column + 3u)", replace: "element(token, column + 2u)" },
    Fault { find: "return vec4<f32>(0.0);", replace: "return vec4<f32>(1.0);" },
];
