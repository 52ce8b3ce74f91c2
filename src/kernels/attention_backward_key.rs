//! Gradients of attention's keys and values.

use super::attention::{self, K, Params, Q, Rows, SIZES, V, add_scaled, mask_or_none};
use super::attention_backward_query::{Backward, Inputs, backward_cases};
use super::attention_plan::{Pass, Plan, Sizes};
use crate::device::{Binding, Context, Kernel, Part, Twin};
use crate::error::Result;
use crate::kernels::{Case, Fault, samples};
use crate::shape::DType;
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
    Binding::stored("qkv"),
    Binding::stored("grad"),
    Binding::f32("mask"),
    Binding::f32("lse"),
    Binding::f32("delta"),
    Binding::stored_mut("dqkv"),
];

/// Writes the gradients of the keys and of the values into their thirds of `dqkv` (B, N, 3 H d); `delta` F32 (B, H, N) is that of
/// `attention_backward_query`.
///
/// # Errors
/// `Error::Shape` when shapes differ.
pub fn launch(ctx: &Context, sizes: &Sizes, inputs: &Inputs<'_>, delta: &Tensor, dqkv: &Tensor) -> Result<()> {
    launch_as(ctx, Plan::new(ctx, Pass::Key, sizes, inputs.qkv.dtype()), sizes, inputs, delta, dqkv)
}

/// The same by a given plan.
pub(super) fn launch_as(
    ctx: &Context,
    plan: Plan,
    sizes: &Sizes,
    inputs: &Inputs<'_>,
    delta: &Tensor,
    dqkv: &Tensor,
) -> Result<()> {
    inputs.check(sizes, dqkv)?;
    sizes.check_statistics("delta", delta)?;
    let &Inputs { qkv, grad, mask, lse, .. } = inputs;
    let bound = mask_or_none(ctx, mask, sizes)?;
    plan.launch(ctx, Pass::Key, sizes, mask.is_some(), &[qkv, grad, &bound, lse, delta, dqkv])
}

pub(super) fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (qkv, grad) = (Rows::new(t.f32(0), 3, p), Rows::new(t.f32(1), 1, p));
    let mask = (p.masked != 0).then(|| t.f32(2));
    let b = Backward { p, qkv, grad, mask, lse: t.f32(3), delta: t.f32(4) };
    let mut dqkv = Rows::new(t.f32(5), 3, p);
    for head in 0..p.batches as usize {
        for j in 0..p.tokens as usize {
            let (mut key, mut value) = (vec![0.0; 4 * p.cells as usize], vec![0.0; 4 * p.cells as usize]);
            for i in 0..p.tokens as usize {
                let (weight, slope) = b.pair(head, i, j);
                add_scaled(&mut key, slope, b.qkv.row(Q, head, i));
                add_scaled(&mut value, weight, b.grad.row(0, head, i));
            }
            dqkv.put(K, head, j, &key);
            dqkv.put(V, head, j, &value);
        }
    }
    t.put_f32(5, dqkv.into_values());
    Ok(())
}

/// As attention's cases; any number serves as delta.
#[must_use]
pub fn cases() -> Vec<Case> {
    backward_cases(&SIZES, attention::case_plan, false, |ctx, sizes, inputs, dqkv| {
        let delta = samples::normal(ctx, &sizes.statistics(), DType::F32, 4)?;
        launch(ctx, sizes, inputs, &delta, dqkv)?;
        Ok(vec![dqkv.clone()])
    })
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "p.scale * mat4x4", replace: "mat4x4" },
    Fault { find: "g[2] - d.z", replace: "g[2]" },
    Fault { find: "select(vec4(3.0e38), lse[statistic(head, query)], inside)", replace: "lse[statistic(head, query)]" },
    Fault { find: "slopes(v, g.b, head, at + 4u)", replace: "slopes(v, g.a, head, at + 4u)" },
    Fault { find: "mask[head / p.heads", replace: "mask[head" },
];
