//! Matrix products: the forms of a linear layer and of its gradients, squares, and skinny ones.

use super::Shapes;
use crate::bench::case::{Case, Check, Make, Work};
use crate::device::{Context, Epilogue, EpilogueKind};
use crate::error::Result;
use crate::kernels::gelu_backward::gelu_slope;
use crate::kernels::matmul::{self, Matmul};
use crate::kernels::{Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// A x B: the gradient of a layer's input.
const NN: Matmul = Matmul { trans_a: false, trans_b: false };
/// A x B^T: the forward pass, weights being stored by output.
const NT: Matmul = Matmul { trans_a: false, trans_b: true };
/// A^T x B: the gradient of the weights, in f32.
const TN: Matmul = Matmul { trans_a: true, trans_b: false };

/// Inner length that the twin can do quickly at any number of rows and columns.
pub(crate) const SHORT: usize = 8;

/// One product: C (m, n), sums of k terms.
#[derive(Clone, Copy)]
pub(crate) struct Product {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub form: Matmul,
    /// Bias and GELU behind it, as in the first layer of a block's MLP; the slope of GELU, as in its gradient; or nothing.
    pub epilogue: EpilogueKind,
}

pub(super) fn cases(shapes: &Shapes) -> Vec<Case> {
    products(shapes).into_iter().map(Product::case).collect()
}

/// The products behind the cases.
pub(crate) fn products(shapes: &Shapes) -> Vec<Product> {
    let (rows, d, b, z) = (shapes.rows(), shapes.width, shapes.batch, shapes.latent);
    let mut list = Vec::new();
    let mut add = |m, n, k, form| list.push(Product { m, n, k, form, epilogue: EpilogueKind::None });
    // A layer of width D: forward, gradient of its input, gradient of its weights.
    add(rows, d, d, NT);
    add(rows, d, d, NN);
    add(d, d, rows, TN);
    // The two layers of an MLP.
    add(rows, 4 * d, d, NT);
    add(rows, d, 4 * d, NT);
    // Skinny: one row per sample, as around the latent vector.
    add(b, z, d, NT);
    add(b, d, z, NN);
    add(z, d, b, TN);
    add(64, d, d, NT);
    add(rows, 64, d, NT);
    // Long sums into few outputs.
    add(64, 64, rows, TN);
    for &side in shapes.squares {
        add(side, side, side, NN);
    }
    let wide = Product { m: rows, n: 4 * d, k: d, form: NT, epilogue: EpilogueKind::BiasGelu };
    list.extend([wide, Product { form: NN, epilogue: EpilogueKind::GeluSlope, ..wide }]);
    list
}

impl Product {
    pub(crate) fn case(self) -> Case {
        let Self { m, n, k, form, epilogue } = self;
        let letter = |t: bool| if t { "T" } else { "N" };
        let (left, right) = (letter(form.trans_a), letter(form.trans_b));
        // What is read or written besides the result.
        let (behind, more) = match epilogue {
            EpilogueKind::BiasGelu => (" bias, gelu", m * n + n),
            EpilogueKind::GeluSlope => (" slope of gelu", m * n),
            _ => ("", 0),
        };
        let in_words = form.trans_a;
        let make: Make = Box::new(move |ctx, dtype, seed| self.work(ctx, dtype, seed, k));
        let reduced: Make = Box::new(move |ctx, dtype, seed| self.work(ctx, dtype, seed, k.min(SHORT)));
        Case {
            kernel: "matmul",
            label: format!("{m}x{n}x{k} {left}{right}{behind}"),
            flops: 2.0 * (m * n * k) as f64,
            stored: m * k + k * n + if in_words { 0 } else { m * n + more },
            words: if in_words { m * n } else { 0 },
            tolerance: Tolerance::sum(k + 2),
            half_terms: 0.0,
            make,
            check: Check::Spots {
                reduced,
                expected: Box::new(move |inputs, o, element| self.expected(inputs, o, element)),
            },
        }
    }

    fn work(self, ctx: &Context, dtype: DType, seed: u64, k: usize) -> Result<Work> {
        let Self { m, n, form, epilogue, .. } = self;
        let a = samples::normal(ctx, &if form.trans_a { [k, m] } else { [m, k] }, dtype, 4 * seed)?;
        let b = samples::normal(ctx, &if form.trans_b { [n, k] } else { [k, n] }, dtype, 4 * seed + 1)?;
        let out = if form.trans_a { DType::F32 } else { dtype };
        if epilogue == EpilogueKind::None {
            return Ok(Work::new(&[&a.clone(), &b.clone()], move |ctx| {
                Ok(vec![matmul::launch(ctx, &form, &a, &b, out, Epilogue::None)?])
            }));
        }
        if epilogue == EpilogueKind::GeluSlope {
            let x = samples::normal(ctx, &[m, n], dtype, 4 * seed + 2)?;
            return Ok(Work::new(&[&a.clone(), &b.clone(), &x.clone()], move |ctx| {
                let epilogue = Epilogue::GeluSlope { pre_activation: &x };
                Ok(vec![matmul::launch(ctx, &form, &a, &b, out, epilogue)?])
            }));
        }
        let bias = samples::normal(ctx, &[n], dtype, 4 * seed + 2)?;
        Ok(Work::new(&[&a.clone(), &b.clone(), &bias.clone()], move |ctx| {
            let pre_activation = Tensor::empty(ctx, &[m, n], out)?;
            let epilogue = Epilogue::BiasGelu { bias: &bias, pre_activation: &pre_activation };
            let c = matmul::launch(ctx, &form, &a, &b, out, epilogue)?;
            Ok(vec![c, pre_activation])
        }))
    }

    fn expected(self, inputs: &[Vec<f32>], output: usize, element: usize) -> f64 {
        let Self { m, n, k, form, epilogue } = self;
        let (row, column) = (element / n, element % n);
        let a = |i: usize| f64::from(inputs[0][if form.trans_a { i * m + row } else { row * k + i }]);
        let b = |i: usize| f64::from(inputs[1][if form.trans_b { column * k + i } else { i * n + column }]);
        let sum: f64 = (0..k).map(|i| a(i) * b(i)).sum();
        match epilogue {
            EpilogueKind::BiasGelu => {}
            EpilogueKind::GeluSlope => return sum * f64::from(gelu_slope(inputs[2][element])),
            _ => return sum,
        }
        let x = sum + f64::from(inputs[2][column]);
        let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3));
        if output == 1 { x } else { 0.5 * x * (1.0 + inner.tanh()) }
    }
}
