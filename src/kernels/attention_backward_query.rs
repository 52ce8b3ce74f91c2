//! Gradient of attention's queries.

use super::attention::{CasePlan, CaseSize, Heads, Params, SIZES, add_scaled, case_mask, counts, dot, mask_or_none};
use super::attention_plan::{Pass, Plan, Sizes};
use super::{attention, attention_statistics};
use crate::device::{Binding, Context, Kernel, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// dq = dS k with dS = P (do v^T - delta) scale.
pub static KERNEL: Kernel = Kernel {
    name: "attention_backward_query",
    source: include_str!("../../shaders/attention_backward_query.wgsl"),
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
    Binding::stored_mut("dq"),
];

/// What the backward kernels read.
#[derive(Clone, Copy)]
pub struct Inputs<'a> {
    /// Queries (B, H, I, d).
    pub q: &'a Tensor,
    /// Keys (B, H, J, d).
    pub k: &'a Tensor,
    /// Values (B, H, J, d).
    pub v: &'a Tensor,
    /// Gradient of the output (B, H, I, d).
    pub grad: &'a Tensor,
    /// Key mask F32 (B, J).
    pub mask: Option<&'a Tensor>,
    /// From `attention_statistics`, F32 (B, H, 2, I).
    pub statistics: &'a Tensor,
}

impl Inputs<'_> {
    pub(super) fn check(&self) -> Result<()> {
        let rows = match *self.q.dims() {
            [b, h, i, _] => [b, h, 2, i],
            _ => [0; 4],
        };
        if self.v.shape() != self.k.shape() || self.grad.shape() != self.q.shape() || self.statistics.dims() != rows {
            let got = format!("v {}, do {}, statistics {}", self.v.shape(), self.grad.shape(), self.statistics.shape());
            let expected = format!("v {}, do {}, statistics {rows:?}", self.k.shape(), self.q.shape());
            return Err(Error::shape("attention_backward", expected, got));
        }
        Ok(())
    }
}

/// The gradient of q, of its shape and type.
///
/// # Errors
/// `Error::Shape` when shapes differ, `Error::Limit` for heads wider than [`attention::MAX_HEAD`].
pub fn launch(ctx: &Context, inputs: &Inputs<'_>) -> Result<Tensor> {
    let sizes = Sizes::of(inputs.q, inputs.k)?;
    launch_as(ctx, Plan::new(ctx, Pass::Query, &sizes, inputs.q.dtype()), &sizes, inputs)
}

/// The same by a given plan.
pub(super) fn launch_as(ctx: &Context, plan: Plan, sizes: &Sizes, inputs: &Inputs<'_>) -> Result<Tensor> {
    inputs.check()?;
    let &Inputs { q, k, v, grad, mask, statistics } = inputs;
    let dq = Tensor::empty(ctx, q.dims(), q.dtype())?;
    let bound = mask_or_none(ctx, mask, k)?;
    plan.launch(ctx, Pass::Query, sizes, mask.is_some(), &[q, k, v, grad, &bound, statistics, &dq])?;
    Ok(dq)
}

/// The buffers of a backward twin: the first six bindings of both kernels.
pub(super) struct Backward {
    pub p: Params,
    pub q: Heads,
    pub k: Heads,
    pub v: Heads,
    pub grad: Heads,
    mask: Option<Vec<f32>>,
    statistics: Vec<f32>,
}

impl Backward {
    pub fn new(t: &Twin<'_>) -> Self {
        let p: Params = t.params();
        Self {
            p,
            q: Heads::new(t.f32(0), p.queries, p.cells),
            k: Heads::new(t.f32(1), p.keys, p.cells),
            v: Heads::new(t.f32(2), p.keys, p.cells),
            grad: Heads::new(t.f32(3), p.queries, p.cells),
            mask: (p.masked != 0).then(|| t.f32(4)),
            statistics: t.f32(5),
        }
    }

    /// `P[i,j] and dS[i,j]`.
    pub fn pair(&self, head: usize, i: usize, j: usize) -> (f64, f64) {
        if !counts(self.mask.as_deref(), &self.p, head, j) {
            return (0.0, 0.0);
        }
        let stride = self.p.queries.next_multiple_of(4) as usize;
        let statistic = |which| f64::from(self.statistics[(2 * head + which) * stride + i]);
        let scale = f64::from(self.p.scale);
        let weight = (dot(self.q.row(head, i), self.k.row(head, j)) * scale - statistic(0)).exp();
        (weight, weight * (dot(self.grad.row(head, i), self.v.row(head, j)) - statistic(1)) * scale)
    }
}

pub(super) fn twin(t: &mut Twin<'_>) -> Result<()> {
    let b = Backward::new(t);
    let mut dq = Heads::new(t.f32(6), b.p.queries, b.p.cells);
    for head in 0..b.p.batches as usize {
        for i in 0..b.p.queries as usize {
            let mut sum = vec![0.0; 4 * b.p.cells as usize];
            for j in 0..b.p.keys as usize {
                add_scaled(&mut sum, b.pair(head, i, j).1, b.k.row(head, j));
            }
            dq.row_mut(head, i).iter_mut().zip(sum).for_each(|(to, s)| *to = s as f32);
        }
    }
    t.put_f32(6, dq.into_values());
    Ok(())
}

/// What a case runs: given what the backward kernels read, and its type.
type Backwards = fn(&Context, &Sizes, &Inputs<'_>) -> Result<Vec<Tensor>>;

/// A backward pass at some sizes, behind a forward pass by the plan that `forward` makes; `rounded`: through probabilities and
/// slopes in halves.
pub(super) fn backward_cases(sizes: &[CaseSize], forward: CasePlan, rounded: bool, run: Backwards) -> Vec<Case> {
    let case = |&(b, h, i, j, d, share): &CaseSize| {
        let tolerance = Tolerance::sum(d * i.max(j)).with_half_terms(if rounded { 2.0 } else { 0.0 });
        Case::new(format!("{b}x{h} {i}x{j}x{d} mask {share}"), tolerance, move |ctx, dtype| {
            let (q, grad) =
                (samples::normal(ctx, &[b, h, i, d], dtype, 1)?, samples::normal(ctx, &[b, h, i, d], dtype, 4)?);
            let (k, v) =
                (samples::normal(ctx, &[b, h, j, d], dtype, 2)?, samples::normal(ctx, &[b, h, j, d], dtype, 3)?);
            let mask = case_mask(ctx, b, j, share)?;
            let sizes = Sizes::of(&q, &k)?;
            let (o, lse) = attention::launch_as(ctx, forward(ctx, &sizes, dtype), &sizes, [&q, &k, &v], mask.as_ref())?;
            let statistics = attention_statistics::launch(ctx, &o, &grad, &lse)?;
            let (q, k, v, grad, mask, statistics) = (&q, &k, &v, &grad, mask.as_ref(), &statistics);
            run(ctx, &sizes, &Inputs { q, k, v, grad, mask, statistics })
        })
    };
    sizes.iter().map(case).collect()
}

/// As attention's cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    backward_cases(&SIZES, attention::case_plan, false, |ctx, _, inputs| Ok(vec![launch(ctx, inputs)?]))
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "(g - delta) * p.scale", replace: "g * p.scale" },
    Fault { find: "(g - delta) * p.scale", replace: "(g - delta)" },
    Fault { find: "grow_scores(g, grads, V", replace: "grow_scores(g, grads, K" },
    Fault { find: "mask[head / p.heads", replace: "mask[head" },
];
