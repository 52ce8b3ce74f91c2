//! Attention: forward, the two kernels of the gradient, and the whole backward pass as training has it.

use super::Shapes;
use crate::bench::case::{Case, Check, Make, Work};
use crate::device::Context;
use crate::error::Result;
use crate::kernels::attention_backward_query::Inputs;
use crate::kernels::attention_plan::{Pass, Sizes};
use crate::kernels::{Tolerance, attention, attention_backward_key, attention_backward_query, samples};
use crate::shape::DType;

/// Parts of qkv.
const Q: usize = 0;
const K: usize = 1;
const V: usize = 2;

/// A pass of attention over samples and heads.
#[derive(Clone, Copy)]
pub(crate) struct Heads {
    pub kind: Pass,
    pub samples: usize,
    pub heads: usize,
    pub tokens: usize,
    pub width: usize,
}

pub(super) fn cases(shapes: &Shapes) -> Vec<Case> {
    let passes = passes(shapes);
    let whole = passes.first().map(|first| Heads { kind: Pass::Whole, ..*first });
    passes.into_iter().chain(whole).map(Heads::case).collect()
}

/// The passes behind the cases, the forward one first.
pub(crate) fn passes(shapes: &Shapes) -> Vec<Heads> {
    let (samples, heads, tokens, width) = (shapes.batch, shapes.heads, shapes.tokens(), shapes.width / shapes.heads);
    Pass::ALL.into_iter().map(|kind| Heads { kind, samples, heads, tokens, width }).collect()
}

impl Heads {
    const fn elements(&self) -> usize {
        self.samples * self.heads * self.tokens * self.width
    }

    pub const fn sizes(&self) -> Sizes {
        Sizes { samples: self.samples, heads: self.heads, tokens: self.tokens, width: self.width }
    }

    fn label(&self) -> String {
        format!("{}x{}x{}x{}", self.samples, self.heads, self.tokens, self.width)
    }

    pub fn case(self) -> Case {
        // Products of (tokens, width) by (width, tokens) or the like; tensors of one head that are read and written.
        let (kernel, what, products, tensors) = match self.kind {
            Pass::Forward => ("attention", "", 2, 4),
            Pass::Query => ("attention_backward_query", " dQ", 3, 6),
            Pass::Key => ("attention_backward_key", " dK, dV", 4, 6),
            // The backward pass as training has it: one launch, or the two above.
            Pass::Whole => ("attention_backward_key", " dQ, dK, dV", 5, 8),
        };
        let make: Make = Box::new(move |ctx, dtype, seed| self.work(ctx, dtype, seed));
        // One launch for all gradients is for four heads and more.
        let heads = if self.kind == Pass::Whole { 4 } else { 2 };
        let small = Self { samples: 1, heads: self.heads.min(heads), ..self };
        let reduced: Make = Box::new(move |ctx, dtype, seed| small.work(ctx, dtype, seed));
        Case {
            kernel,
            label: format!("{}{what}", self.label()),
            flops: 2.0 * (products * self.elements() * self.tokens) as f64,
            stored: tensors * self.elements(),
            words: self.samples * self.heads * self.tokens * if self.kind == Pass::Forward { 1 } else { 2 },
            tolerance: Tolerance::sum(self.width + self.tokens),
            // Weights of rows come to 1; slopes are rounded twice.
            half_terms: if self.kind == Pass::Forward { 1.0 } else { 2.0 },
            make,
            check: Check::Spots {
                reduced,
                expected: Box::new(move |inputs, output, element| self.expected(inputs, output, element)),
            },
        }
    }

    fn work(self, ctx: &Context, dtype: DType, seed: u64) -> Result<Work> {
        let sizes = self.sizes();
        let draw = |parts, i| samples::normal(ctx, &sizes.rows(parts), dtype, 4 * seed + i);
        let (qkv, grad) = (draw(3, 0)?, draw(1, 1)?);
        if self.kind == Pass::Forward {
            return Ok(Work::new(&[&qkv.clone()], move |ctx| {
                let (o, lse) = attention::launch(ctx, &sizes, &qkv, None)?;
                Ok(vec![o, lse])
            }));
        }
        let (o, lse) = attention::launch(ctx, &sizes, &qkv, None)?;
        // Each pass writes its thirds and leaves the others as they were.
        let (dqkv, before) = (draw(3, 2)?, draw(3, 2)?);
        let inputs = Inputs { qkv: &qkv, o: &o, grad: &grad, mask: None, lse: &lse };
        let delta = attention_backward_query::launch(ctx, &sizes, &inputs, &draw(3, 3)?)?;
        let kind = self.kind;
        Ok(Work::new(&[&qkv.clone(), &grad.clone(), &o.clone(), &before], move |ctx| {
            let inputs = Inputs { qkv: &qkv, o: &o, grad: &grad, mask: None, lse: &lse };
            if kind == Pass::Whole {
                attention_backward_key::launch_all(ctx, &sizes, &inputs, &dqkv)?;
                return Ok(vec![dqkv.clone()]);
            }
            if kind == Pass::Query {
                let delta = attention_backward_query::launch(ctx, &sizes, &inputs, &dqkv)?;
                return Ok(vec![dqkv.clone(), delta]);
            }
            attention_backward_key::launch(ctx, &sizes, &inputs, &delta, &dqkv)?;
            Ok(vec![dqkv.clone()])
        }))
    }

    /// A row of one head of an input whose rows hold so many parts of all heads.
    fn row<'a>(&self, input: &'a [f32], parts: usize, part: usize, head: usize, i: usize) -> &'a [f32] {
        let width = self.sizes().padded();
        let token = head / self.heads * self.tokens + i;
        let start = ((token * parts + part) * self.heads + head % self.heads) * width;
        &input[start..start + width]
    }

    /// A query, key or value.
    fn part<'a>(&self, inputs: &'a [Vec<f32>], part: usize, head: usize, i: usize) -> &'a [f32] {
        self.row(&inputs[0], 3, part, head, i)
    }

    /// Scaled scores of query `i`, their probabilities, and the log of their sum.
    fn probabilities(&self, inputs: &[Vec<f32>], head: usize, i: usize) -> (Vec<f64>, f64) {
        let scale = 1.0 / (self.width as f64).sqrt();
        let q = self.part(inputs, Q, head, i);
        let scores: Vec<_> = (0..self.tokens).map(|j| scale * dot(q, self.part(inputs, K, head, j))).collect();
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|s| (s - top).exp()).sum();
        (scores.iter().map(|s| (s - top).exp() / sum).collect(), top + sum.ln())
    }

    /// dO . O of query `i`. O is given, rounded as it is stored: that is what the kernels read.
    fn delta(&self, inputs: &[Vec<f32>], head: usize, i: usize) -> f64 {
        dot(self.row(&inputs[1], 1, 0, head, i), self.row(&inputs[2], 1, 0, head, i))
    }

    /// The gradients of the scores of query `i`: P (dP - dO . O), dP = dO V^T.
    fn score_gradients(&self, inputs: &[Vec<f32>], head: usize, i: usize) -> Vec<f64> {
        let (p, _) = self.probabilities(inputs, head, i);
        let grad = self.row(&inputs[1], 1, 0, head, i);
        let dp = (0..self.tokens).map(|j| dot(grad, self.part(inputs, V, head, j)));
        let mean = self.delta(inputs, head, i);
        p.iter().zip(dp).map(|(p, d)| p * (d - mean)).collect()
    }

    fn expected(self, inputs: &[Vec<f32>], output: usize, element: usize) -> f64 {
        if output == 1 {
            let (head, i) = (element / self.tokens, element % self.tokens);
            let forward = self.kind == Pass::Forward;
            return if forward { self.probabilities(inputs, head, i).1 } else { self.delta(inputs, head, i) };
        }
        // The place in a row of o, or of qkv, and the row.
        let parts = if self.kind == Pass::Forward { 1 } else { 3 };
        let width = self.sizes().padded();
        let (c, at) = (element % width, element / width);
        let (part, token) = (at / self.heads % parts, at / self.heads / parts);
        let (head, i) = (token / self.tokens * self.heads + at % self.heads, token % self.tokens);
        let value = |part, j| f64::from(self.part(inputs, part, head, j)[c]);
        let grad = |j| f64::from(self.row(&inputs[1], 1, 0, head, j)[c]);
        let scale = 1.0 / (self.width as f64).sqrt();
        let all = 0..self.tokens;
        match (self.kind, part) {
            (Pass::Forward, _) => {
                let (p, _) = self.probabilities(inputs, head, i);
                all.map(|j| p[j] * value(V, j)).sum()
            }
            (Pass::Query | Pass::Whole, Q) => {
                let ds = self.score_gradients(inputs, head, i);
                all.map(|j| scale * ds[j] * value(K, j)).sum()
            }
            (Pass::Key | Pass::Whole, K) => {
                all.map(|j| scale * self.score_gradients(inputs, head, j)[i] * value(Q, j)).sum()
            }
            (Pass::Key | Pass::Whole, V) => all.map(|j| self.probabilities(inputs, head, j).0[i] * grad(j)).sum(),
            _ => f64::from(inputs[3][element]),
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}
