//! Gradients of attention's keys and values.

use super::attention::{self, Heads, SIZES, add_scaled, mask_or_none};
use super::attention_backward_query::{Backward, Inputs, backward_cases};
use super::attention_plan::{Pass, Plan, Sizes};
use crate::device::{Binding, Context, Kernel, Part, Twin};
use crate::error::Result;
use crate::kernels::{Case, Fault};
use crate::tensor::Tensor;

/// dv = P^T do, dk = dS^T q with dS = P (do v^T - delta) scale.
pub static KERNEL: Kernel = Kernel {
    name: "attention_backward_key",
    source: include_str!("../../shaders/attention_backward_key.wgsl"),
    parts: &[Part::Grid, Part::AttentionParams, Part::Loads, Part::Attention],
    bindings: BINDINGS,
    epilogues: false,
    twin,
};

/// What every kernel of this pass binds.
pub(super) const BINDINGS: &[Binding] = &[
    Binding::stored("q"),
    Binding::stored("k"),
    Binding::stored("v"),
    Binding::stored("grad"),
    Binding::f32("mask"),
    Binding::f32("statistics"),
    Binding::stored_mut("dk"),
    Binding::stored_mut("dv"),
];

/// The gradients of k and of v, of their shape and type.
///
/// # Errors
/// As `attention_backward_query`.
pub fn launch(ctx: &Context, inputs: &Inputs<'_>) -> Result<(Tensor, Tensor)> {
    let sizes = Sizes::of(inputs.q, inputs.k)?;
    launch_as(ctx, Plan::new(ctx, Pass::Key, &sizes, inputs.q.dtype()), &sizes, inputs)
}

/// The same by a given plan.
pub(super) fn launch_as(ctx: &Context, plan: Plan, sizes: &Sizes, inputs: &Inputs<'_>) -> Result<(Tensor, Tensor)> {
    inputs.check()?;
    let &Inputs { q, k, v, grad, mask, statistics } = inputs;
    let (dk, dv) = (Tensor::empty(ctx, k.dims(), k.dtype())?, Tensor::empty(ctx, v.dims(), v.dtype())?);
    let bound = mask_or_none(ctx, mask, k)?;
    plan.launch(ctx, Pass::Key, sizes, mask.is_some(), &[q, k, v, grad, &bound, statistics, &dk, &dv])?;
    Ok((dk, dv))
}

pub(super) fn twin(t: &mut Twin<'_>) -> Result<()> {
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
    backward_cases(&SIZES, attention::case_plan, false, |ctx, _, inputs| {
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
