//! Batches of products: those of a dense expansion, where every position of an image has a matrix of its own, in the layouts of
//! `ops::dense`.

use crate::bench::case::{Case, Check, Make, Work};
use crate::bench::cases::Shapes;
use crate::bench::cases::products::SHORT;
use crate::device::{Context, Epilogue};
use crate::error::Result;
use crate::kernels::matmul::{self, Batched, Matmul};
use crate::kernels::{Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// Which of the three products of a dense layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pass {
    /// C (m, N, n) = A (m, k) x B (N, n, k)^T, A shared.
    Forward,
    /// C (N, m, n) in f32 = A (m, N, k) x B (N, k, n).
    Input,
    /// C (N, m, n) in f32 = A (k, N, m)^T x B (k, n), B shared.
    Weights,
}

/// N products at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Products {
    pub pass: Pass,
    pub count: usize,
    pub m: usize,
    pub n: usize,
    pub k: usize,
}

/// The three of a dense layer of width D, as many positions at once as one binding of f32 holds.
pub(super) fn products(ctx: &Context, shapes: &Shapes) -> [Products; 3] {
    let (across, b, d) = (shapes.image.0 / shapes.image.1, shapes.batch, shapes.width);
    let one = 4 * (d * d.next_multiple_of(4)) as u64;
    let most = (ctx.capabilities().max_binding / one).max(1) as usize;
    let count = (across * across).min(most);
    [(Pass::Forward, b, d, d), (Pass::Input, b, d, d), (Pass::Weights, d, d, b)].map(|(pass, m, n, k)| Products {
        pass,
        count,
        m,
        n,
        k,
    })
}

impl Products {
    /// With edges everywhere.
    pub fn edged(self) -> Self {
        let (m, n) = (self.m.saturating_sub(3).max(1), self.n.saturating_sub(5).max(1));
        Self { count: self.count.min(3), m, n, k: 2 * SHORT + 1, ..self }
    }

    /// What the twin can do quickly.
    pub fn short(self) -> Self {
        Self { count: self.count.min(2), k: self.k.min(SHORT), ..self }
    }

    pub fn batched(self) -> Batched {
        let Self { pass, count, m, n, k } = self;
        let cells = |width: usize| width.div_ceil(4);
        let form = Matmul { trans_a: pass == Pass::Weights, trans_b: pass == Pass::Forward };
        let sizes = Batched { form, batches: count, rows: m, width: n, inner: k, ..Batched::default() };
        let (one_by_one, in_tokens) = ((cells(n), m * cells(n)), (count * cells(n), cells(n)));
        let (c_row, c_batch) = if pass == Pass::Forward { in_tokens } else { one_by_one };
        let ((a_row, a_batch), (b_row, b_batch)) = match pass {
            Pass::Forward => ((cells(k), 0), (cells(k), n * cells(k))),
            Pass::Input => ((count * cells(k), cells(k)), (cells(n), k * cells(n))),
            Pass::Weights => ((count * cells(m), cells(m)), (cells(n), 0)),
        };
        Batched { a_row, a_batch, b_row, b_batch, c_row, c_batch, ..sizes }
    }

    /// Shapes of A, B and C.
    fn shapes(self) -> [Vec<usize>; 3] {
        let Self { pass, count, m, n, k } = self;
        match pass {
            Pass::Forward => [vec![m, k], vec![count, n, k], vec![m, count, n]],
            Pass::Input => [vec![m, count, k], vec![count, k, n], vec![count, m, n]],
            Pass::Weights => [vec![k, count, m], vec![k, n], vec![count, m, n]],
        }
    }

    fn work(self, ctx: &Context, dtype: DType, seed: u64) -> Result<Work> {
        let [a, b, c] = self.shapes();
        let a = samples::normal(ctx, &a, dtype, 4 * seed)?;
        let b = samples::normal(ctx, &b, dtype, 4 * seed + 1)?;
        let out = if self.pass == Pass::Forward { dtype } else { DType::F32 };
        Ok(Work::new(&[&a.clone(), &b.clone()], move |ctx| {
            let c = Tensor::empty(ctx, &c, out)?;
            matmul::launch_batched(ctx, &self.batched(), &a, &b, &c, Epilogue::None)?;
            Ok(vec![c])
        }))
    }

    fn expected(self, inputs: &[Vec<f32>], element: usize) -> f64 {
        let Self { pass, count, m, n, k } = self;
        let (before, column) = (element / n, element % n);
        let (row, p) = if pass == Pass::Forward { (before / count, before % count) } else { (before % m, before / m) };
        let a = |i: usize| match pass {
            Pass::Forward => row * k + i,
            Pass::Input => (row * count + p) * k + i,
            Pass::Weights => (i * count + p) * m + row,
        };
        let b = |i: usize| match pass {
            Pass::Forward => (p * n + column) * k + i,
            Pass::Input => (p * k + i) * n + column,
            Pass::Weights => i * n + column,
        };
        (0..k).map(|i| f64::from(inputs[0][a(i)]) * f64::from(inputs[1][b(i)])).sum()
    }

    pub fn case(self) -> Case {
        let Self { pass, count, m, n, k } = self;
        let letters = match pass {
            Pass::Forward => "NT",
            Pass::Input => "NN",
            Pass::Weights => "TN",
        };
        let [a, b, c] = self.shapes().map(|dims| dims.iter().product::<usize>());
        let in_words = pass != Pass::Forward;
        let make: Make = Box::new(move |ctx, dtype, seed| self.work(ctx, dtype, seed));
        let reduced: Make = Box::new(move |ctx, dtype, seed| self.short().work(ctx, dtype, seed));
        Case {
            kernel: "matmul",
            label: format!("{m}x{n}x{k} {letters} x{count}"),
            flops: 2.0 * (count * m * n * k) as f64,
            stored: a + b + if in_words { 0 } else { c },
            words: if in_words { c } else { 0 },
            tolerance: Tolerance::sum(k + 2),
            half_terms: 0.0,
            make,
            check: Check::Spots {
                reduced,
                expected: Box::new(move |inputs, _, element| self.expected(inputs, element)),
            },
        }
    }
}
