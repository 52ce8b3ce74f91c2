//! Softmax attention, forward, without a matrix of scores.

use bytemuck::{Pod, Zeroable};

use super::attention_plan::{Pass, Plan, Sizes};
use crate::device::{Binding, Context, Kernel, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// o = softmax(q k^T scale) v, and the log-sum-exp of the scaled scores of every row.
pub static KERNEL: Kernel = Kernel {
    name: "attention",
    source: include_str!("../../shaders/attention.wgsl"),
    parts: &[Part::Grid, Part::AttentionParams, Part::Loads, Part::Attention],
    bindings: BINDINGS,
    epilogues: false,
    twin,
};

/// What every kernel of the forward pass binds.
pub(super) const BINDINGS: &[Binding] = &[
    Binding::stored("q"),
    Binding::stored("k"),
    Binding::stored("v"),
    Binding::f32("mask"),
    Binding::stored_mut("o"),
    Binding::f32_mut("lse"),
];

/// Widest head, in channels.
pub const MAX_HEAD: usize = 128;

/// Log-sum-exp of a row without keys, as in the shader.
pub(super) const NO_KEY: f32 = 3.0e38;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct Params {
    pub batches: u32,
    pub heads: u32,
    pub queries: u32,
    pub keys: u32,
    pub cells: u32,
    pub tiles: u32,
    pub slices: u32,
    pub scale: f32,
    pub masked: u32,
}

/// The mask to bind: the given one, checked, or four words that nothing reads.
pub(super) fn mask_or_none(ctx: &Context, mask: Option<&Tensor>, k: &Tensor) -> Result<Tensor> {
    let (samples, keys) = (k.dims()[0], k.dims()[2]);
    match mask {
        None => Tensor::empty(ctx, &[4], DType::F32),
        Some(mask) if mask.dims() == [samples, keys] => Ok(mask.clone()),
        Some(mask) => Err(Error::shape("attention", format!("mask ({samples}, {keys})"), mask.shape())),
    }
}

/// q (B, H, I, d), k and v (B, H, J, d), mask F32 (B, J) with 0 for keys to leave out -> o (B, H, I, d) and the log-sum-exp
/// F32 (B, H, I). The scale is 1/sqrt(d).
///
/// # Errors
/// `Error::Shape` when shapes differ, `Error::Limit` for heads wider than [`MAX_HEAD`].
pub fn launch(ctx: &Context, q: &Tensor, k: &Tensor, v: &Tensor, mask: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
    let sizes = Sizes::of(q, k)?;
    let plan = Plan::new(ctx, Pass::Forward, &sizes, q.dtype());
    launch_as(ctx, plan, &sizes, [q, k, v], mask)
}

/// The same by a given plan.
pub(super) fn launch_as(
    ctx: &Context,
    plan: Plan,
    sizes: &Sizes,
    [q, k, v]: [&Tensor; 3],
    mask: Option<&Tensor>,
) -> Result<(Tensor, Tensor)> {
    if v.shape() != k.shape() {
        return Err(Error::shape("attention", format!("v {}", k.shape()), v.shape()));
    }
    let o = Tensor::empty(ctx, q.dims(), q.dtype())?;
    let lse = Tensor::empty(ctx, &q.dims()[..3], DType::F32)?;
    let bound = mask_or_none(ctx, mask, k)?;
    plan.launch(ctx, Pass::Forward, sizes, mask.is_some(), &[q, k, v, &bound, &o, &lse])?;
    Ok((o, lse))
}

/// Rows of one head as plain numbers, for the twins: `row(head, i)` of a tensor with `rows` rows per head.
pub(super) struct Heads {
    values: Vec<f32>,
    rows: usize,
    stride: usize,
}

impl Heads {
    pub fn new(values: Vec<f32>, rows: u32, cells: u32) -> Self {
        Self { values, rows: rows as usize, stride: 4 * cells as usize }
    }

    pub fn row(&self, head: usize, i: usize) -> &[f32] {
        let start = (head * self.rows + i) * self.stride;
        &self.values[start..start + self.stride]
    }

    pub fn row_mut(&mut self, head: usize, i: usize) -> &mut [f32] {
        let start = (head * self.rows + i) * self.stride;
        &mut self.values[start..start + self.stride]
    }

    pub fn into_values(self) -> Vec<f32> {
        self.values
    }
}

/// The scalar product of two rows.
pub(super) fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}

/// Adds `factor` times a row to a sum.
pub(super) fn add_scaled(sum: &mut [f64], factor: f64, row: &[f32]) {
    for (s, x) in sum.iter_mut().zip(row) {
        *s += factor * f64::from(*x);
    }
}

/// Whether key `j` counts for `head`.
pub(super) fn counts(mask: Option<&[f32]>, p: &Params, head: usize, j: usize) -> bool {
    let stride = p.keys.next_multiple_of(4) as usize;
    mask.is_none_or(|mask| mask[head / p.heads as usize * stride + j] != 0.0)
}

/// softmax(q_i k^T scale), with zeros for keys that do not count; the log-sum-exp.
pub(super) fn softmax(q: &[f32], k: &Heads, mask: Option<&[f32]>, p: &Params, head: usize) -> (Vec<f64>, f64) {
    let live = |j: &usize| counts(mask, p, head, *j);
    let score = |j: usize| dot(q, k.row(head, j)) * f64::from(p.scale);
    let keys = p.keys as usize;
    let top = (0..keys).filter(live).map(score).fold(f64::NEG_INFINITY, f64::max);
    let exponential = |j| if live(&j) { (score(j) - top).exp() } else { 0.0 };
    let mut weights: Vec<f64> = (0..keys).map(exponential).collect();
    let sum: f64 = weights.iter().sum();
    if sum > 0.0 {
        weights.iter_mut().for_each(|w| *w /= sum);
    }
    (weights, if sum > 0.0 { top + sum.ln() } else { f64::from(NO_KEY) })
}

pub(super) fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (q, k, v) = (
        Heads::new(t.f32(0), p.queries, p.cells),
        Heads::new(t.f32(1), p.keys, p.cells),
        Heads::new(t.f32(2), p.keys, p.cells),
    );
    let mask = (p.masked != 0).then(|| t.f32(3));
    let mut o = Heads::new(t.f32(4), p.queries, p.cells);
    let mut lse = vec![0.0; t.f32(5).len()];
    for head in 0..p.batches as usize {
        for i in 0..p.queries as usize {
            let (weights, log_sum) = softmax(q.row(head, i), &k, mask.as_deref(), &p, head);
            let mut sum = vec![0.0; 4 * p.cells as usize];
            for (j, weight) in weights.iter().enumerate() {
                add_scaled(&mut sum, *weight, v.row(head, j));
            }
            o.row_mut(head, i).iter_mut().zip(sum).for_each(|(to, s)| *to = s as f32);
            lse[head * p.queries.next_multiple_of(4) as usize + i] = log_sum as f32;
        }
    }
    t.put_f32(4, o.into_values());
    t.put_f32(5, lse);
    Ok(())
}

/// Samples, heads, queries, keys, head width, share of keys that count.
pub(super) type CaseSize = (usize, usize, usize, usize, usize, f32);

/// Sizes of the cases of all attention kernels.
pub(super) const SIZES: [CaseSize; 9] = [
    (1, 1, 1, 1, 1, 1.0),
    (2, 3, 5, 7, 6, 1.0),
    (1, 2, 33, 16, 16, 1.0),
    (1, 1, 4, 17, 33, 1.0),
    (1, 1, 6, 35, 128, 1.0),
    (3, 2, 7, 21, 8, 0.5),
    (2, 2, 37, 50, 20, 0.1),
    (2, 1, 3, 5, 4, 0.0),
    (2, 2, 67, 77, 40, 0.6),
];

/// Mask for a case: none when all keys count.
pub(super) fn case_mask(ctx: &Context, samples: usize, keys: usize, share: f32) -> Result<Option<Tensor>> {
    if share < 1.0 { samples::mask(ctx, &[samples, keys], share, 9).map(Some) } else { Ok(None) }
}

/// Lengths around the blocks, masks, rows without any key, every slice.
#[must_use]
pub fn cases() -> Vec<Case> {
    forward_cases(&SIZES, case_plan, false)
}

/// How a case is cut.
pub(super) type CasePlan = fn(&Context, &Sizes, DType) -> Plan;

/// As the launch cuts it.
pub(super) fn case_plan(ctx: &Context, sizes: &Sizes, dtype: DType) -> Plan {
    Plan::new(ctx, Pass::Forward, sizes, dtype)
}

/// The forward pass at some sizes, by the plan that `plan` makes; `rounded`: through weights in halves, which weigh rows of
/// order one and come to 1.
pub(super) fn forward_cases(sizes: &[CaseSize], plan: CasePlan, rounded: bool) -> Vec<Case> {
    let case = |&(b, h, i, j, d, share): &CaseSize| {
        let tolerance = Tolerance::sum(d + j).with_half_terms(f32::from(u8::from(rounded)));
        Case::new(format!("{b}x{h} {i}x{j}x{d} mask {share}"), tolerance, move |ctx, dtype| {
            let q = samples::normal(ctx, &[b, h, i, d], dtype, 1)?;
            let (k, v) =
                (samples::normal(ctx, &[b, h, j, d], dtype, 2)?, samples::normal(ctx, &[b, h, j, d], dtype, 3)?);
            let sizes = Sizes::of(&q, &k)?;
            let mask = case_mask(ctx, b, j, share)?;
            let (o, lse) = launch_as(ctx, plan(ctx, &sizes, dtype), &sizes, [&q, &k, &v], mask.as_ref())?;
            Ok(vec![o, lse])
        })
    };
    sizes.iter().map(case).collect()
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "l = l * f +", replace: "l = l +" },
    Fault { find: "sum[1] * by.y", replace: "sum[1]" },
    Fault { find: "mask[head / p.heads", replace: "mask[head" },
    Fault { find: "s0 = s2; s1 = s3;", replace: "s0 = s2;" },
    Fault { find: "m + log(l)", replace: "log(l)" },
    Fault { find: "1.0 / l, l > vec4(0.0)", replace: "1.0 / l, l > vec4(-1.0)" },
];
