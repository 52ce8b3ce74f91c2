//! Gradient of attention's queries.

use super::attention;
use super::attention::{
    CasePlan, CaseSize, K, Params, Q, Rows, SIZES, V, add_scaled, case_inputs, counts, dot, mask_or_none,
};
use super::attention_plan::{Pass, Plan, Sizes};
use crate::device::{Binding, Context, Kernel, Part, Twin};
use crate::error::Result;
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// dq = dS k with dS = P (do v^T - delta) scale, and delta = o . do of each row.
pub static KERNEL: Kernel = Kernel {
    name: "attention_backward_query",
    source: include_str!("../../shaders/attention_backward_query.wgsl"),
    parts: &[Part::Grid, Part::AttentionParams, Part::Loads, Part::Attention, Part::AttentionDelta],
    bindings: BINDINGS,
    epilogues: false,
    twin,
};

/// What every kernel of the backward pass binds.
pub(super) const BINDINGS: &[Binding] = &[
    Binding::stored("qkv"),
    Binding::stored("o"),
    Binding::stored("grad"),
    Binding::f32("mask"),
    Binding::f32("lse"),
    Binding::stored_mut("dqkv"),
    Binding::f32_mut("delta"),
];

/// What the backward kernels read.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// Queries, keys and values (B, N, 3 H d).
    pub qkv: &'a Tensor,
    /// The output (B, N, H d).
    pub o: &'a Tensor,
    /// Gradient of the output (B, N, H d).
    pub grad: &'a Tensor,
    /// Key mask F32 (B, N).
    pub mask: Option<&'a Tensor>,
    /// Log-sum-exp of the rows, F32 (B, H, N).
    pub lse: &'a Tensor,
}

impl Inputs<'_> {
    pub(super) fn check(&self, sizes: &Sizes, dqkv: &Tensor) -> Result<()> {
        sizes.check("qkv", self.qkv, 3)?;
        sizes.check("o", self.o, 1)?;
        sizes.check("do", self.grad, 1)?;
        sizes.check("dqkv", dqkv, 3)?;
        sizes.check_statistics("lse", self.lse)
    }
}

/// Writes the gradient of the queries into their third of `dqkv` (B, N, 3 H d), and returns o . do of each row, F32 (B, H, N),
/// which `attention_backward_key` needs.
///
/// # Errors
/// `Error::Shape` when shapes differ.
pub fn launch(ctx: &Context, sizes: &Sizes, inputs: &Inputs<'_>, dqkv: &Tensor) -> Result<Tensor> {
    launch_as(ctx, Plan::new(ctx, Pass::Query, sizes, inputs.qkv.dtype()), sizes, inputs, dqkv)
}

/// The same by a given plan.
pub(super) fn launch_as(
    ctx: &Context,
    plan: Plan,
    sizes: &Sizes,
    inputs: &Inputs<'_>,
    dqkv: &Tensor,
) -> Result<Tensor> {
    inputs.check(sizes, dqkv)?;
    let &Inputs { qkv, o, grad, mask, lse } = inputs;
    let delta = Tensor::empty(ctx, &sizes.statistics(), DType::F32)?;
    let bound = mask_or_none(ctx, mask, sizes)?;
    plan.launch(ctx, Pass::Query, sizes, mask.is_some(), &[qkv, o, grad, &bound, lse, dqkv, &delta])?;
    Ok(delta)
}

/// What both backward twins compute from.
pub(super) struct Backward {
    pub p: Params,
    pub qkv: Rows,
    pub grad: Rows,
    pub mask: Option<Vec<f32>>,
    pub lse: Vec<f32>,
    pub delta: Vec<f32>,
}

impl Backward {
    /// From a launch with [`BINDINGS`].
    pub fn new(t: &Twin<'_>, p: Params) -> Self {
        let (qkv, grad) = (Rows::new(t.f32(0), 3, p), Rows::new(t.f32(2), 1, p));
        Self { p, qkv, grad, mask: (p.masked != 0).then(|| t.f32(3)), lse: t.f32(4), delta: t.f32(6) }
    }

    /// `P[i,j] and dS[i,j]`.
    pub fn pair(&self, head: usize, i: usize, j: usize) -> (f64, f64) {
        if !counts(self.mask.as_deref(), &self.p, head, j) {
            return (0.0, 0.0);
        }
        let at = head * self.p.tokens.next_multiple_of(4) as usize + i;
        let scale = f64::from(self.p.scale);
        let score = dot(self.qkv.row(Q, head, i), self.qkv.row(K, head, j)) * scale;
        let weight = (score - f64::from(self.lse[at])).exp();
        let mean = f64::from(self.delta[at]);
        (weight, weight * (dot(self.grad.row(0, head, i), self.qkv.row(V, head, j)) - mean) * scale)
    }
}

/// delta, the gradient of the queries, and what else a launch with [`BINDINGS`] reads.
pub(super) fn of_queries(t: &Twin<'_>) -> (Backward, Rows) {
    let p: Params = t.params();
    let (o, grad) = (Rows::new(t.f32(1), 1, p), Rows::new(t.f32(2), 1, p));
    let mut delta = vec![0.0; t.f32(6).len()];
    for head in 0..p.batches as usize {
        for i in 0..p.tokens as usize {
            let at = head * p.tokens.next_multiple_of(4) as usize + i;
            delta[at] = dot(o.row(0, head, i), grad.row(0, head, i)) as f32;
        }
    }
    let b = Backward { delta, ..Backward::new(t, p) };
    let mut dqkv = Rows::new(t.f32(5), 3, p);
    for head in 0..p.batches as usize {
        for i in 0..p.tokens as usize {
            let mut sum = vec![0.0; 4 * p.cells as usize];
            for j in 0..p.tokens as usize {
                add_scaled(&mut sum, b.pair(head, i, j).1, b.qkv.row(K, head, j));
            }
            dqkv.put(Q, head, i, &sum);
        }
    }
    (b, dqkv)
}

pub(super) fn twin(t: &mut Twin<'_>) -> Result<()> {
    let (b, dqkv) = of_queries(t);
    t.put_f32(5, dqkv.into_values());
    t.put_f32(6, b.delta);
    Ok(())
}

/// What a case runs: given what the backward kernels read, and where to.
type Backwards = fn(&Context, &Sizes, &Inputs<'_>, &Tensor) -> Result<Vec<Tensor>>;

/// A backward pass at some sizes, behind a forward pass by the plan that `forward` makes, over a gradient that is full of
/// other numbers; `rounded`: through probabilities and slopes in halves.
pub(super) fn backward_cases(sizes: &[CaseSize], forward: CasePlan, rounded: bool, run: Backwards) -> Vec<Case> {
    let case = |&size: &CaseSize| {
        let (b, h, n, d, share) = size;
        let tolerance = Tolerance::sum(d * n).with_half_terms(if rounded { 2.0 } else { 0.0 });
        Case::new(format!("{b}x{h}x{n}x{d} mask {share}"), tolerance, move |ctx, dtype| {
            let (sizes, qkv, mask) = case_inputs(ctx, size, dtype)?;
            let mask = mask.as_ref();
            let (o, lse) = attention::launch_as(ctx, forward(ctx, &sizes, dtype), &sizes, &qkv, mask)?;
            let grad = samples::normal(ctx, &sizes.rows(1), dtype, 2)?;
            let dqkv = samples::normal(ctx, &sizes.rows(3), dtype, 3)?;
            run(ctx, &sizes, &Inputs { qkv: &qkv, o: &o, grad: &grad, mask, lse: &lse }, &dqkv)
        })
    };
    sizes.iter().map(case).collect()
}

/// As attention's cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    backward_cases(&SIZES, attention::case_plan, false, |ctx, sizes, inputs, dqkv| {
        let delta = launch(ctx, sizes, inputs, dqkv)?;
        Ok(vec![dqkv.clone(), delta])
    })
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "(g - delta) * p.scale", replace: "g * p.scale" },
    Fault { find: "(g - delta) * p.scale", replace: "(g - delta)" },
    Fault { find: "second, values + cell", replace: "second, keys + cell" },
    Fault { find: "mask[head / p.heads", replace: "mask[head" },
    Fault { find: "own_rows(head, query, 1u, 0u)", replace: "own_rows(head, query, 3u, 0u)" },
    Fault { find: "let next = 3u * p.row", replace: "let next = p.row" },
    Fault { find: "select(vec4(0.0), means, inside)", replace: "means" },
];
