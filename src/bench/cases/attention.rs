//! Attention: forward, the numbers kept for its gradient, and the two kernels of the gradient.

use super::{Shapes, twinned};
use crate::bench::case::{Case, Check, Make, Work};
use crate::device::Context;
use crate::error::Result;
use crate::kernels::attention_backward_query::Inputs;
use crate::kernels::attention_plan::Pass;
use crate::kernels::{
    Tolerance, attention, attention_backward_key, attention_backward_query, attention_statistics, samples,
};
use crate::shape::DType;
use crate::tensor::Tensor;

/// A pass of attention over samples and heads, with as many keys as queries.
#[derive(Clone, Copy)]
pub(crate) struct Heads {
    pub kind: Pass,
    pub samples: usize,
    pub heads: usize,
    pub tokens: usize,
    pub width: usize,
}

pub(super) fn cases(shapes: &Shapes) -> Vec<Case> {
    let mut cases: Vec<_> = passes(shapes).into_iter().map(Heads::case).collect();
    cases.extend(passes(shapes).first().map(|forward| forward.statistics()));
    cases
}

/// The passes behind the cases, the forward one first.
pub(crate) fn passes(shapes: &Shapes) -> Vec<Heads> {
    let (samples, heads, tokens, width) = (shapes.batch, shapes.heads, shapes.tokens(), shapes.width / shapes.heads);
    Pass::ALL.into_iter().map(|kind| Heads { kind, samples, heads, tokens, width }).collect()
}

/// q, k, v, and the gradient of the output.
type Four = (Tensor, Tensor, Tensor, Tensor);

impl Heads {
    const fn elements(&self) -> usize {
        self.samples * self.heads * self.tokens * self.width
    }

    fn label(&self) -> String {
        format!("{}x{}x{}x{}", self.samples, self.heads, self.tokens, self.width)
    }

    pub fn case(self) -> Case {
        // Products of (tokens, width) by (width, tokens) or the like; tensors of one head that are read and written.
        let (kernel, what, products, tensors) = match self.kind {
            Pass::Forward => ("attention", "", 2, 4),
            Pass::Query => ("attention_backward_query", " dQ", 3, 5),
            Pass::Key => ("attention_backward_key", " dK, dV", 4, 6),
        };
        let make: Make = Box::new(move |ctx, dtype, seed| self.work(ctx, dtype, seed));
        let small = Self { samples: 1, heads: self.heads.min(2), ..self };
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

    fn draw(self, ctx: &Context, dtype: DType, seed: u64) -> Result<Four> {
        let dims = [self.samples, self.heads, self.tokens, self.width];
        let one = |i| samples::normal(ctx, &dims, dtype, 4 * seed + i);
        Ok((one(0)?, one(1)?, one(2)?, one(3)?))
    }

    fn work(self, ctx: &Context, dtype: DType, seed: u64) -> Result<Work> {
        let (q, k, v, grad) = self.draw(ctx, dtype, seed)?;
        let inputs = [q.clone(), k.clone(), v.clone(), grad.clone()];
        let inputs = [&inputs[0], &inputs[1], &inputs[2], &inputs[3]];
        if self.kind == Pass::Forward {
            return Ok(Work::new(&inputs, move |ctx| {
                let (o, lse) = attention::launch(ctx, &q, &k, &v, None)?;
                Ok(vec![o, lse])
            }));
        }
        let (o, lse) = attention::launch(ctx, &q, &k, &v, None)?;
        let statistics = attention_statistics::launch(ctx, &o, &grad, &lse)?;
        let kind = self.kind;
        let [a, b, c, d] = inputs;
        Ok(Work::new(&[a, b, c, d, &o], move |ctx| {
            let inputs = Inputs { q: &q, k: &k, v: &v, grad: &grad, mask: None, statistics: &statistics };
            Ok(match kind {
                Pass::Key => {
                    let (dk, dv) = attention_backward_key::launch(ctx, &inputs)?;
                    vec![dk, dv]
                }
                _ => vec![attention_backward_query::launch(ctx, &inputs)?],
            })
        }))
    }

    fn statistics(&self) -> Case {
        let this = *self;
        let (elements, rows) = (self.elements(), self.samples * self.heads * self.tokens);
        let cost = (2.0 * elements as f64, 2 * elements, 3 * rows);
        let tolerance = Tolerance::sum(self.width);
        twinned("attention_statistics", self.label(), cost, tolerance, move |ctx, dtype, seed| {
            let (o, _, _, grad) = this.draw(ctx, dtype, seed)?;
            let lse = samples::normal(ctx, &o.dims()[..3], DType::F32, seed + 9)?;
            Ok(Work::new(&[&o.clone(), &grad.clone()], move |ctx| {
                Ok(vec![attention_statistics::launch(ctx, &o, &grad, &lse)?])
            }))
        })
    }

    /// A row of one head of an input.
    fn row<'a>(&self, inputs: &'a [Vec<f32>], input: usize, head: usize, i: usize) -> &'a [f32] {
        let start = (head * self.tokens + i) * self.width;
        &inputs[input][start..start + self.width]
    }

    /// Scaled scores of query `i`, their probabilities, and the log of their sum.
    fn probabilities(&self, inputs: &[Vec<f32>], head: usize, i: usize) -> (Vec<f64>, f64) {
        let scale = 1.0 / (self.width as f64).sqrt();
        let q = self.row(inputs, 0, head, i);
        let scores: Vec<_> = (0..self.tokens).map(|j| scale * dot(q, self.row(inputs, 1, head, j))).collect();
        let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = scores.iter().map(|s| (s - top).exp()).sum();
        (scores.iter().map(|s| (s - top).exp() / sum).collect(), top + sum.ln())
    }

    /// Probabilities of query `i`, and the gradients of its scores: P (dP - dO . O), dP = dO V^T. O is given, rounded as it
    /// is stored: that is what the kernels read.
    fn score_gradients(&self, inputs: &[Vec<f32>], head: usize, i: usize) -> (Vec<f64>, Vec<f64>) {
        let (p, _) = self.probabilities(inputs, head, i);
        let grad = self.row(inputs, 3, head, i);
        let dp: Vec<_> = (0..self.tokens).map(|j| dot(grad, self.row(inputs, 2, head, j))).collect();
        let mean = dot(grad, self.row(inputs, 4, head, i));
        let ds = p.iter().zip(&dp).map(|(p, d)| p * (d - mean)).collect();
        (p, ds)
    }

    fn expected(self, inputs: &[Vec<f32>], output: usize, element: usize) -> f64 {
        if (self.kind, output) == (Pass::Forward, 1) {
            return self.probabilities(inputs, element / self.tokens, element % self.tokens).1;
        }
        let (c, row) = (element % self.width, element / self.width);
        let (head, i) = (row / self.tokens, row % self.tokens);
        let at = |input, j| f64::from(self.row(inputs, input, head, j)[c]);
        let scale = 1.0 / (self.width as f64).sqrt();
        let all = 0..self.tokens;
        match (self.kind, output) {
            (Pass::Forward, _) => {
                let (p, _) = self.probabilities(inputs, head, i);
                all.map(|j| p[j] * at(2, j)).sum()
            }
            (Pass::Query, _) => {
                let (_, ds) = self.score_gradients(inputs, head, i);
                all.map(|j| scale * ds[j] * at(1, j)).sum()
            }
            (Pass::Key, 0) => all.map(|j| scale * self.score_gradients(inputs, head, j).1[i] * at(0, j)).sum(),
            (Pass::Key, _) => all.map(|j| self.probabilities(inputs, head, j).0[i] * at(3, j)).sum(),
        }
    }
}

fn dot(a: &[f32], b: &[f32]) -> f64 {
    a.iter().zip(b).map(|(x, y)| f64::from(*x) * f64::from(*y)).sum()
}
