//! Softmax attention, forward, without a matrix of scores.

use bytemuck::{Pod, Zeroable};

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// o = softmax(q k^T scale) v, and the log-sum-exp of the scaled scores of every row.
pub static KERNEL: Kernel = Kernel {
    name: "attention",
    source: include_str!("../../shaders/attention.wgsl"),
    parts: &[Part::Grid, Part::Loads, Part::Attention],
    bindings: &[
        Binding::stored("q"),
        Binding::stored("k"),
        Binding::stored("v"),
        Binding::f32("mask"),
        Binding::stored_mut("o"),
        Binding::f32_mut("lse"),
    ],
    epilogues: false,
    twin,
};

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

/// How an attention kernel is cut, shared by the three of them.
pub(super) struct Cut {
    pub params: Params,
    pub slice: usize,
    /// Rows of the other side taken together: 4, 8 or 16.
    pub block: usize,
    pub workgroup: usize,
}

impl Cut {
    /// `rows` of each head are owned by invocations, four by four; at most `slice` cells each.
    pub fn new(ctx: &Context, q: &Tensor, k: &Tensor, own_keys: bool, slice: usize) -> Result<Self> {
        let (&[samples, heads, queries, d], &[_, _, keys, _]) = (q.dims(), k.dims()) else {
            return Err(Error::shape(
                "attention",
                "q (B, H, I, d), k (B, H, J, d)",
                format!("{}, {}", q.shape(), k.shape()),
            ));
        };
        if q.dims()[..2] != k.dims()[..2] || k.dims()[3] != d {
            return Err(Error::shape("attention", format!("({samples}, {heads}, J, {d})"), k.shape()));
        }
        if d > MAX_HEAD {
            return Err(Error::Limit {
                what: "width of an attention head".into(),
                needed: d as u64,
                available: MAX_HEAD as u64,
                advice: "use more heads",
            });
        }
        let cells = q.shape().cells();
        let slice = slice.min(cells.div_ceil(4) * 4).next_power_of_two();
        let workgroup = if ctx.capabilities().software { 8 } else { 32 };
        let (rows, others) = if own_keys { (keys, queries) } else { (queries, keys) };
        let params = Params {
            batches: (samples * heads) as u32,
            heads: heads as u32,
            queries: queries as u32,
            keys: keys as u32,
            cells: cells as u32,
            tiles: rows.div_ceil(4 * workgroup) as u32,
            slices: cells.div_ceil(slice) as u32,
            scale: 1.0 / (d as f32).sqrt(),
            masked: 0,
        };
        // Wide blocks pay off where there are many, and on GPUs their registers are missing elsewhere.
        let block = match others {
            _ if !ctx.capabilities().software => 4,
            0..16 => 4,
            16..64 => 8,
            _ => 16,
        };
        Ok(Self { params, slice, block, workgroup })
    }

    /// Adds parameters, overrides (`block`: the name of that one), grid and cost; `products` matrix products per slice and `outputs` in all.
    pub fn describe<'a>(
        &self,
        launch: Launch<'a>,
        block: &'static str,
        masked: bool,
        products: usize,
        outputs: usize,
    ) -> Launch<'a> {
        let p = &self.params;
        let product = 8.0 * f64::from(p.batches) * f64::from(p.queries) * f64::from(p.keys) * f64::from(p.cells);
        launch
            .params(&Params { masked: u32::from(masked), ..*p })
            .constant("SLICE", self.slice as f64)
            .constant(block, self.block as f64)
            .constant("WORKGROUP", self.workgroup as f64)
            .groups((p.batches * p.tiles * p.slices) as usize)
            .flops(product * (products + outputs) as f64)
    }
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
    let slice = if ctx.capabilities().software { 16 } else { 8 };
    let cut = Cut::new(ctx, q, k, false, slice)?;
    if v.shape() != k.shape() {
        return Err(Error::shape("attention", format!("v {}", k.shape()), v.shape()));
    }
    let o = Tensor::empty(ctx, q.dims(), q.dtype())?;
    let lse = Tensor::empty(ctx, &q.dims()[..3], DType::F32)?;
    let bound = mask_or_none(ctx, mask, k)?;
    let launch = Launch::new(&KERNEL).tensors(&[q, k, v, &bound, &o, &lse]);
    cut.describe(launch, "KEYS", mask.is_some(), 1, 1).run(ctx)?;
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

fn twin(t: &mut Twin<'_>) -> Result<()> {
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

/// Samples, heads, queries, keys, head width, share of keys that count: for the cases of all attention kernels.
pub(super) const SIZES: [(usize, usize, usize, usize, usize, f32); 9] = [
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
    SIZES
        .into_iter()
        .map(|(b, h, i, j, d, share)| {
            Case::new(format!("{b}x{h} {i}x{j}x{d} mask {share}"), Tolerance::sum(d + j), move |ctx, dtype| {
                let q = samples::normal(ctx, &[b, h, i, d], dtype, 1)?;
                let (k, v) =
                    (samples::normal(ctx, &[b, h, j, d], dtype, 2)?, samples::normal(ctx, &[b, h, j, d], dtype, 3)?);
                let (o, lse) = launch(ctx, &q, &k, &v, case_mask(ctx, b, j, share)?.as_ref())?;
                Ok(vec![o, lse])
            })
        })
        .collect()
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
