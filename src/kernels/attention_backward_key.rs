//! Gradients of attention's keys and values, and in one mode of its queries too.

use super::attention::{self, K, Params, Q, Rows, SIZES, V, add_scaled, mask_or_none};
use super::attention_backward_query::{self, BINDINGS, Backward, Inputs, backward_cases};
use super::attention_plan::{Pass, Plan, Sizes, WIDEST_WHOLE, whole};
use crate::device::{Context, Kernel, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::masks::unread;
use crate::kernels::{Case, Fault, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// dv = P^T do, dk = dS^T q with dS = P (do v^T - delta) scale; WHOLE: dq = dS k and delta = o . do too.
pub static KERNEL: Kernel = Kernel {
    name: "attention_backward_key",
    source: include_str!("../../shaders/attention_backward_key.wgsl"),
    parts: &[
        Part::Grid,
        Part::AttentionParams,
        Part::Loads,
        Part::Attention,
        Part::AttentionKeys,
        Part::AttentionDelta,
        Part::Given,
    ],
    bindings: BINDINGS,
    epilogues: false,
    twin,
};

/// Writes all three gradients into `dqkv` (B, N, 3 H d), by one launch where [`whole`] says so, else by two.
///
/// # Errors
/// `Error::Shape` when shapes differ.
pub fn launch_all(ctx: &Context, sizes: &Sizes, inputs: &Inputs<'_>, dqkv: &Tensor) -> Result<()> {
    if whole(ctx, sizes, inputs.qkv.dtype()) {
        return launch_whole(ctx, sizes, inputs, dqkv).map(|_| ());
    }
    let delta = attention_backward_query::launch(ctx, sizes, inputs, dqkv)?;
    launch(ctx, sizes, inputs, &delta, dqkv)
}

/// All three by one launch; returns o . do of each row, F32 (B, H, N). Heads of at most 64 channels.
fn launch_whole(ctx: &Context, sizes: &Sizes, inputs: &Inputs<'_>, dqkv: &Tensor) -> Result<Tensor> {
    if sizes.padded() > WIDEST_WHOLE {
        return Err(Error::shape("attention_backward_key", format!("heads of at most {WIDEST_WHOLE}"), sizes.width));
    }
    let delta = Tensor::empty(ctx, &sizes.statistics(), DType::F32)?;
    let plan = Plan::by_rule(ctx, Pass::Whole, sizes, inputs.qkv.dtype());
    run(ctx, (plan, Pass::Whole), sizes, inputs, &delta, dqkv)?;
    Ok(delta)
}

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
    run(ctx, (plan, Pass::Key), sizes, inputs, delta, dqkv)
}

fn run(
    ctx: &Context,
    (plan, pass): (Plan, Pass),
    sizes: &Sizes,
    inputs: &Inputs<'_>,
    delta: &Tensor,
    dqkv: &Tensor,
) -> Result<()> {
    inputs.check(sizes, dqkv)?;
    sizes.check_statistics("delta", delta)?;
    let &Inputs { qkv, o, grad, mask, lse } = inputs;
    let bound = mask_or_none(ctx, mask, sizes)?;
    let o = if pass == Pass::Whole { o.clone() } else { unread(o)? };
    plan.launch(ctx, pass, sizes, mask.is_some(), &[qkv, &o, grad, &bound, lse, dqkv, delta])
}

pub(super) fn twin(t: &mut Twin<'_>) -> Result<()> {
    let (p, all): (Params, _) = (t.params(), t.flag("WHOLE"));
    let (b, mut dqkv) =
        if all { attention_backward_query::of_queries(t) } else { (Backward::new(t, p), Rows::new(t.f32(5), 3, p)) };
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
    if all {
        t.put_f32(6, b.delta);
    }
    Ok(())
}

/// As attention's cases; any number serves as delta. In f32 all three gradients too, where heads are narrow enough.
#[must_use]
pub fn cases() -> Vec<Case> {
    backward_cases(&SIZES, attention::case_plan, false, |ctx, sizes, inputs, dqkv| {
        let delta = samples::normal(ctx, &sizes.statistics(), DType::F32, 4)?;
        launch(ctx, sizes, inputs, &delta, dqkv)?;
        let mut all = vec![dqkv.clone()];
        if dqkv.dtype() == DType::F32 && sizes.padded() <= WIDEST_WHOLE {
            let dqkv = Tensor::empty(ctx, dqkv.dims(), DType::F32)?;
            let delta = launch_whole(ctx, sizes, inputs, &dqkv)?;
            all.extend([dqkv, delta]);
        }
        Ok(all)
    })
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "p.scale * mat4x4", replace: "mat4x4" },
    Fault { find: "g[2] - d.z", replace: "g[2]" },
    Fault { find: "select(vec4(3.0e38), lse[statistic(head, query)], inside)", replace: "lse[statistic(head, query)]" },
    Fault { find: "slopes(v, g.b, head, at + 4u)", replace: "slopes(v, g.a, head, at + 4u)" },
    Fault { find: "mask[head / p.heads", replace: "mask[head" },
    Fault { find: "unpack4(dqkv[at]) + rest.low[0]", replace: "rest.low[0]" },
    Fault { find: "shown5(x), a.k5, b.k5", replace: "shown5(x), a.k4, b.k5" },
    Fault { find: "store_queries(head, query, lid + 8u, first, sum.b);", replace: "" },
    Fault { find: "(p.tokens + 4u * WORKGROUP - 1u)", replace: "p.tokens" },
];
