//! Gradient of attention's queries.

use super::attention::{Cut, Heads, Params, SIZES, add_scaled, case_mask, counts, dot, mask_or_none};
use super::{attention, attention_statistics};
use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// dq = dS k with dS = P (do v^T - delta) scale.
pub static KERNEL: Kernel = Kernel {
    name: "attention_backward_query",
    source: include_str!("../../shaders/attention_backward_query.wgsl"),
    parts: &[Part::Grid, Part::Loads, Part::Attention],
    bindings: &[
        Binding::stored("q"),
        Binding::stored("k"),
        Binding::stored("v"),
        Binding::stored("grad"),
        Binding::f32("mask"),
        Binding::f32("statistics"),
        Binding::stored_mut("dq"),
    ],
    epilogues: false,
    twin,
};

/// What both backward kernels read.
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
    let &Inputs { q, k, v, grad, mask, statistics } = inputs;
    let slice = if ctx.capabilities().software { 16 } else { 8 };
    let cut = Cut::new(ctx, q, k, false, slice)?;
    inputs.check()?;
    let dq = Tensor::empty(ctx, q.dims(), q.dtype())?;
    let bound = mask_or_none(ctx, mask, k)?;
    let launch = Launch::new(&KERNEL).tensors(&[q, k, v, grad, &bound, statistics, &dq]);
    cut.describe(launch, "KEYS", mask.is_some(), 2, 1).run(ctx)?;
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

fn twin(t: &mut Twin<'_>) -> Result<()> {
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

/// The forward's sizes, for either backward kernel.
pub(super) fn backward_cases(run: fn(&Context, &Inputs<'_>) -> Result<Vec<Tensor>>) -> Vec<Case> {
    SIZES
        .into_iter()
        .map(|(b, h, i, j, d, share)| {
            Case::new(format!("{b}x{h} {i}x{j}x{d} mask {share}"), Tolerance::sum(d * i.max(j)), move |ctx, dtype| {
                let (q, grad) =
                    (samples::normal(ctx, &[b, h, i, d], dtype, 1)?, samples::normal(ctx, &[b, h, i, d], dtype, 4)?);
                let (k, v) =
                    (samples::normal(ctx, &[b, h, j, d], dtype, 2)?, samples::normal(ctx, &[b, h, j, d], dtype, 3)?);
                let mask = case_mask(ctx, b, j, share)?;
                let (o, lse) = attention::launch(ctx, &q, &k, &v, mask.as_ref())?;
                let statistics = attention_statistics::launch(ctx, &o, &grad, &lse)?;
                let (q, k, v, grad, mask, statistics) = (&q, &k, &v, &grad, mask.as_ref(), &statistics);
                run(ctx, &Inputs { q, k, v, grad, mask, statistics })
            })
        })
        .collect()
}

/// As attention's cases.
#[must_use]
pub fn cases() -> Vec<Case> {
    backward_cases(|ctx, inputs| Ok(vec![launch(ctx, inputs)?]))
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "(g - delta) * p.scale", replace: "g * p.scale" },
    Fault { find: "(g - delta) * p.scale", replace: "(g - delta)" },
    Fault { find: "grow_scores(g, grads, V", replace: "grow_scores(g, grads, K" },
    Fault { find: "mask[head / p.heads", replace: "mask[head" },
];
