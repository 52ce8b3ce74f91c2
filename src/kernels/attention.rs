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
pub(super) const BINDINGS: &[Binding] =
    &[Binding::stored("qkv"), Binding::f32("mask"), Binding::stored_mut("o"), Binding::f32_mut("lse")];

/// Widest head, in channels.
pub const MAX_HEAD: usize = 128;

/// Log-sum-exp of a row without keys, as in the shader.
pub(super) const NO_KEY: f32 = 3.0e38;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct Params {
    pub batches: u32,
    pub heads: u32,
    pub tokens: u32,
    pub row: u32,
    pub cells: u32,
    pub tiles: u32,
    pub slices: u32,
    pub scale: f32,
    pub masked: u32,
}

/// The mask to bind: the given one, checked, or four words that nothing reads.
pub(super) fn mask_or_none(ctx: &Context, mask: Option<&Tensor>, sizes: &Sizes) -> Result<Tensor> {
    let &Sizes { samples, tokens, .. } = sizes;
    match mask {
        None => Tensor::empty(ctx, &[4], DType::F32),
        Some(mask) if mask.dims() == [samples, tokens] => Ok(mask.clone()),
        Some(mask) => Err(Error::shape("attention", format!("mask ({samples}, {tokens})"), mask.shape())),
    }
}

/// qkv (B, N, 3 H d), mask F32 (B, N) with 0 for keys to leave out -> o (B, N, H d) and the log-sum-exp F32 (B, H, N), with heads
/// of whole cells: see [`Sizes`]. The scale is 1/sqrt(d).
///
/// # Errors
/// `Error::Shape` when shapes differ.
pub fn launch(ctx: &Context, sizes: &Sizes, qkv: &Tensor, mask: Option<&Tensor>) -> Result<(Tensor, Tensor)> {
    launch_as(ctx, Plan::new(ctx, Pass::Forward, sizes, qkv.dtype()), sizes, qkv, mask)
}

/// The same by a given plan.
pub(super) fn launch_as(
    ctx: &Context,
    plan: Plan,
    sizes: &Sizes,
    qkv: &Tensor,
    mask: Option<&Tensor>,
) -> Result<(Tensor, Tensor)> {
    sizes.check("qkv", qkv, 3)?;
    let o = Tensor::empty(ctx, &sizes.rows(1), qkv.dtype())?;
    let lse = Tensor::empty(ctx, &sizes.statistics(), DType::F32)?;
    let bound = mask_or_none(ctx, mask, sizes)?;
    plan.launch(ctx, Pass::Forward, sizes, mask.is_some(), &[qkv, &bound, &o, &lse])?;
    Ok((o, lse))
}

/// Rows of heads as plain numbers, for the twins: of a tensor whose rows hold some parts of all heads, 3 in qkv, 1 in o.
pub(super) struct Rows {
    values: Vec<f32>,
    parts: usize,
    p: Params,
}

impl Rows {
    pub const fn new(values: Vec<f32>, parts: usize, p: Params) -> Self {
        Self { values, parts, p }
    }

    fn range(&self, part: usize, head: usize, token: usize) -> std::ops::Range<usize> {
        let (heads, width) = (self.p.heads as usize, 4 * self.p.cells as usize);
        let row = head / heads * self.p.tokens as usize + token;
        let start = ((row * self.parts + part) * heads + head % heads) * width;
        start..start + width
    }

    pub fn row(&self, part: usize, head: usize, token: usize) -> &[f32] {
        &self.values[self.range(part, head, token)]
    }

    pub fn put(&mut self, part: usize, head: usize, token: usize, values: &[f64]) {
        let range = self.range(part, head, token);
        self.values[range].iter_mut().zip(values).for_each(|(to, value)| *to = *value as f32);
    }

    pub fn into_values(self) -> Vec<f32> {
        self.values
    }
}

/// Parts of qkv.
pub(super) const Q: usize = 0;
pub(super) const K: usize = 1;
pub(super) const V: usize = 2;

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
    let stride = p.tokens.next_multiple_of(4) as usize;
    mask.is_none_or(|mask| mask[head / p.heads as usize * stride + j] != 0.0)
}

/// softmax(q_i k^T scale), with zeros for keys that do not count; the log-sum-exp.
fn softmax(qkv: &Rows, mask: Option<&[f32]>, p: &Params, head: usize, i: usize) -> (Vec<f64>, f64) {
    let live = |j: &usize| counts(mask, p, head, *j);
    let score = |j: usize| dot(qkv.row(Q, head, i), qkv.row(K, head, j)) * f64::from(p.scale);
    let keys = p.tokens as usize;
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
    let qkv = Rows::new(t.f32(0), 3, p);
    let mask = (p.masked != 0).then(|| t.f32(1));
    let mut o = Rows::new(t.f32(2), 1, p);
    let mut lse = vec![0.0; t.f32(3).len()];
    for head in 0..p.batches as usize {
        for i in 0..p.tokens as usize {
            let (weights, log_sum) = softmax(&qkv, mask.as_deref(), &p, head, i);
            let mut sum = vec![0.0; 4 * p.cells as usize];
            for (j, weight) in weights.iter().enumerate() {
                add_scaled(&mut sum, *weight, qkv.row(V, head, j));
            }
            o.put(0, head, i, &sum);
            lse[head * p.tokens.next_multiple_of(4) as usize + i] = log_sum as f32;
        }
    }
    t.put_f32(2, o.into_values());
    t.put_f32(3, lse);
    Ok(())
}

/// Samples, heads, tokens, head width, share of keys that count.
pub(super) type CaseSize = (usize, usize, usize, usize, f32);

/// Sizes of the cases of all attention kernels.
pub(super) const SIZES: [CaseSize; 9] = [
    (1, 1, 1, 1, 1.0),
    (2, 3, 7, 6, 1.0),
    (1, 2, 16, 16, 1.0),
    (1, 1, 33, 33, 1.0),
    (1, 1, 35, 128, 1.0),
    (3, 2, 21, 8, 0.5),
    (2, 2, 50, 20, 0.1),
    (2, 1, 5, 4, 0.0),
    (2, 2, 77, 40, 0.6),
];

/// Sizes, qkv and the mask of a case: none when all keys count. A head's width is that of the scale; its cells are full.
pub(super) fn case_inputs(
    ctx: &Context,
    (samples, heads, tokens, width, share): CaseSize,
    dtype: DType,
) -> Result<(Sizes, Tensor, Option<Tensor>)> {
    let sizes = Sizes { samples, heads, tokens, width };
    let qkv = samples::normal(ctx, &sizes.rows(3), dtype, 1)?;
    let mask = if share < 1.0 { Some(samples::mask(ctx, &[samples, tokens], share, 9)?) } else { None };
    Ok((sizes, qkv, mask))
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
    let case = |&size: &CaseSize| {
        let (b, h, n, d, share) = size;
        let tolerance = Tolerance::sum(d + n).with_half_terms(f32::from(u8::from(rounded)));
        Case::new(format!("{b}x{h}x{n}x{d} mask {share}"), tolerance, move |ctx, dtype| {
            let (sizes, qkv, mask) = case_inputs(ctx, size, dtype)?;
            let (o, lse) = launch_as(ctx, plan(ctx, &sizes, dtype), &sizes, &qkv, mask.as_ref())?;
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
