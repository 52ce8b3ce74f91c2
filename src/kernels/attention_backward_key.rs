//! Gradients of attention's keys and values.

use super::attention::{Cut, Heads, add_scaled, mask_or_none};
use super::attention_backward_query::{Backward, Inputs, backward_cases};
use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::Result;
use crate::kernels::{Case, Fault};
use crate::tensor::Tensor;

/// dv = P^T do, dk = dS^T q with dS = P (do v^T - delta) scale.
pub static KERNEL: Kernel = Kernel {
    name: "attention_backward_key",
    source: include_str!("../../shaders/attention_backward_key.wgsl"),
    parts: &[Part::Grid, Part::Loads, Part::Attention],
    bindings: &[
        Binding::stored("q"),
        Binding::stored("k"),
        Binding::stored("v"),
        Binding::stored("grad"),
        Binding::f32("mask"),
        Binding::f32("statistics"),
        Binding::stored_mut("dk"),
        Binding::stored_mut("dv"),
    ],
    epilogues: false,
    twin,
};

/// The gradients of k and of v, of their shape and type.
///
/// # Errors
/// As `attention_backward_query`.
pub fn launch(ctx: &Context, inputs: &Inputs<'_>) -> Result<(Tensor, Tensor)> {
    let &Inputs { q, k, v, grad, mask, statistics } = inputs;
    let slice = if ctx.capabilities().software { 16 } else { 4 };
    let cut = Cut::new(ctx, q, k, true, slice)?;
    inputs.check()?;
    let (dk, dv) = (Tensor::empty(ctx, k.dims(), k.dtype())?, Tensor::empty(ctx, v.dims(), v.dtype())?);
    let bound = mask_or_none(ctx, mask, k)?;
    let launch = Launch::new(&KERNEL).tensors(&[q, k, v, grad, &bound, statistics, &dk, &dv]);
    cut.describe(launch, "QUERIES", mask.is_some(), 2, 2).run(ctx)?;
    Ok((dk, dv))
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let b = Backward::new(t);
    let mut dk = Heads::new(t.f32(6), b.p.keys, b.p.cells);
    let mut dv = Heads::new(t.f32(7), b.p.keys, b.p.cells);
    for head in 0..b.p.batches as usize {
        for j in 0..b.p.keys as usize {
            let (mut key, mut value) = (vec![0.0; 4 * b.p.cells as usize], vec![0.0; 4 * b.p.cells as usize]);
            for i in 0..b.p.queries as usize {
                let (weight, slope) = b.pair(head, i, j);
                add_scaled(&mut key, slope, b.q.row(head, i));
                add_scaled(&mut value, weight, b.grad.row(head, i));
            }
            dk.row_mut(head, j).iter_mut().zip(key).for_each(|(to, s)| *to = s as f32);
            dv.row_mut(head, j).iter_mut().zip(value).for_each(|(to, s)| *to = s as f32);
        }
    }
    t.put_f32(6, dk.into_values());
    t.put_f32(7, dv.into_values());
    Ok(())
}

/// As attention's cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    backward_cases(|ctx, inputs| {
        let (dk, dv) = launch(ctx, inputs)?;
        Ok(vec![dk, dv])
    })
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "p.scale * mat4x4", replace: "mat4x4" },
    Fault { find: "g[2] - d.z", replace: "g[2]" },
    Fault { find: "select(vec4(3.0e38), statistic(head, 0u, query), inside)", replace: "statistic(head, 0u, query)" },
    Fault { find: "slopes(v, g.b, head, at + 4u)", replace: "slopes(v, g.a, head, at + 4u)" },
    Fault { find: "mask[head / p.heads", replace: "mask[head" },
];
