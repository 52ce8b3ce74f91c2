//! Sum of two tensors of one shape.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// Invocations per workgroup, as in the shader.
const WORKGROUP: usize = 256;

/// `c = a + b`.
pub static KERNEL: Kernel = Kernel {
    name: "add",
    source: include_str!("../../shaders/add.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("a"), Binding::stored("b"), Binding::stored_mut("c")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
}

/// `a + b` for two tensors of one shape and element type.
///
/// # Errors
/// `Error::Shape` when the shapes differ.
pub fn launch(ctx: &Context, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    if a.dims() != b.dims() {
        return Err(Error::shape("add", a.shape(), b.shape()));
    }
    let c = Tensor::empty(ctx, a.dims(), a.dtype())?;
    let cells = a.shape().stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[a, b, &c])
        .params(&Params { cells: cells as u32 })
        .groups(cells.div_ceil(WORKGROUP))
        .flops(a.shape().elements() as f64)
        .run(ctx)?;
    Ok(c)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let c = t.f32(0).iter().zip(t.f32(1)).map(|(a, b)| a + b).collect();
    t.put_f32(2, c);
    Ok(())
}

/// Shapes of the parity test, and halves that overflow as in a backward pass: each becomes an infinity of its sign, and its
/// neighbours stay what they are.
#[must_use]
pub fn cases() -> Vec<Case> {
    let overflow = Case::new("overflow in a backward pass", Tolerance::elementwise(), |ctx, storage| {
        let most = 65504.0;
        let a = [1.0, most, -most, 2.0, 4e4, -4e4, 3.0, -4.0, most, 5.0, 0.0, -most, most, 32768.0, 6.0, most];
        let b = [1.0, most, -most, 2.0, -4e4, -4e4, 3.0, -4.0, 1e4, 5.0, 0.0, 1.0, 0.0, 32736.0, 6.0, 32.0];
        let [a, b] = [a, b].map(|values| Tensor::from_f32(ctx, &[values.len()], &values, storage));
        let (a, b) = (a?, b?);
        ctx.saturating(false, || {
            let sum = launch(ctx, &a, &b)?;
            Ok(vec![launch(ctx, &sum, &a)?, sum])
        })
    });
    [vec![1], vec![3, 5], vec![2, 3, 4, 7], vec![257, 1024], vec![1031, 3]]
        .into_iter()
        .map(|dims| {
            Case::new(format!("{dims:?}"), Tolerance::elementwise(), move |ctx, storage| {
                let a = samples::normal(ctx, &dims, storage, 1)?;
                let b = samples::normal(ctx, &dims, storage, 2)?;
                Ok(vec![launch(ctx, &a, &b)?])
            })
        })
        .chain([overflow])
        .collect()
}

/// Mistakes the parity test must find.
pub const FAULTS: &[Fault] = &[
    Fault { find: "unpack4(a[i]) + unpack4(b[i])", replace: "unpack4(a[i]) - unpack4(b[i])" },
    Fault { find: "if (i >= p.cells)", replace: "if (i + 1u >= p.cells)" },
];
