//! Derivatives held against central differences, on the twins in f32.

use crate::device::Context;
use crate::error::Result;
use crate::kernels::samples;
use crate::shape::DType;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// Inputs of a test: dims, and the seed of their standard normal values.
type Input<'a> = (&'a [usize], u64);

/// Largest relative error of a right derivative. Central differences with h = 0.01 are off by h^2/6 of the third derivative,
/// and by the rounding of the result, 6e-8, over 2 h.
const LIMIT: f64 = 1e-2;

/// Step of the differences, for inputs of order one.
const STEP: f32 = 1e-2;

/// Checks the derivative of every input of `f`, element by element, and that freezing the other inputs changes nothing.
/// The result of `f`, of any shape, is projected on fixed random weights, which are also the seed of the backward pass.
/// Panics with all wrong elements.
pub(crate) fn gradients(name: &str, inputs: &[Input<'_>], f: impl Fn(&mut Tape, &[Var]) -> Result<Var>) {
    let report = compare(inputs, &f).unwrap_or_else(|error| panic!("{name}: {error}"));
    println!("{name}: {} elements, worst relative error {:.1e}", report.elements, report.worst);
    assert!(report.elements > 0, "{name}: nothing was compared");
    let shown = report.wrong.len().min(10);
    assert!(report.wrong.is_empty(), "{name}: {} wrong\n{}", report.wrong.len(), report.wrong[..shown].join("\n"));
}

/// What a comparison found.
struct Report {
    elements: usize,
    worst: f64,
    wrong: Vec<String>,
}

fn compare(inputs: &[Input<'_>], f: &impl Fn(&mut Tape, &[Var]) -> Result<Var>) -> Result<Report> {
    let context = Context::cpu();
    let draw = |&(dims, seed): &Input<'_>| samples::normal(&context, dims, DType::F32, seed)?.to_f32();
    let values = inputs.iter().map(draw).collect::<Result<Vec<_>>>()?;
    let trial = Trial { context: &context, inputs, f };

    let all = trial.backward(&values, |_| true)?;
    let mut report = Report { elements: 0, worst: 0.0, wrong: Vec::new() };
    for i in 0..inputs.len() {
        let alone = trial.backward(&values, |j| i == j)?;
        if alone[i] != all[i] {
            report.wrong.push(format!("input {i}: another gradient when the other inputs are frozen"));
        }
        if alone.iter().enumerate().any(|(j, gradient)| j != i && gradient.is_some()) {
            report.wrong.push(format!("input {i}: a gradient for a frozen input"));
        }
        let differences = trial.differences(&values, i)?;
        // No gradient means zero: the result does not depend on the input.
        let rule = all[i].clone().unwrap_or_else(|| vec![0.0; differences.len()]);
        if rule.len() != differences.len() {
            report.wrong.push(format!("input {i}: {} gradients for {} elements", rule.len(), differences.len()));
        }
        report.add(i, &rule, &differences);
    }
    Ok(report)
}

impl Report {
    /// Errors are relative to the element, or to a tenth of the root mean square where an element is small by chance.
    fn add(&mut self, input: usize, rule: &[f32], differences: &[f64]) {
        let square = differences.iter().map(|d| d * d).sum::<f64>() / differences.len() as f64;
        let floor = (0.1 * square.sqrt()).max(1e-3);
        for (element, (&rule, &difference)) in rule.iter().zip(differences).enumerate() {
            let rule = f64::from(rule);
            let error = (rule - difference).abs() / rule.abs().max(difference.abs()).max(floor);
            self.elements += 1;
            if error.is_nan() || error > LIMIT {
                let line = format!("input {input}, element {element}: {rule:.6e}, central difference {difference:.6e}");
                self.wrong.push(line);
            }
            self.worst = self.worst.max(error);
        }
    }
}

struct Trial<'a, F> {
    context: &'a Context,
    inputs: &'a [Input<'a>],
    f: &'a F,
}

impl<F: Fn(&mut Tape, &[Var]) -> Result<Var>> Trial<'_, F> {
    fn vars(&self, tape: &mut Tape, values: &[Vec<f32>], wanted: impl Fn(usize) -> bool) -> Result<Vec<Var>> {
        let mut vars = Vec::new();
        for (i, ((dims, _), values)) in self.inputs.iter().zip(values).enumerate() {
            let tensor = Tensor::from_f32(self.context, dims, values, DType::F32)?;
            vars.push(if wanted(i) { tape.leaf(tensor) } else { tape.constant(tensor) });
        }
        Ok(vars)
    }

    /// The fixed weights that make a number of the result.
    fn weights(&self, result: &Var) -> Result<Tensor> {
        samples::normal(self.context, result.value().dims(), DType::F32, 0x77)
    }

    fn backward(&self, values: &[Vec<f32>], wanted: impl Fn(usize) -> bool) -> Result<Vec<Option<Vec<f32>>>> {
        let mut tape = Tape::new(self.context);
        let vars = self.vars(&mut tape, values, wanted)?;
        let result = (self.f)(&mut tape, &vars)?;
        let gradients = tape.backward(&result, &self.weights(&result)?)?;
        vars.iter().map(|var| gradients.get(var).map(Tensor::to_f32).transpose()).collect()
    }

    fn forward(&self, values: &[Vec<f32>]) -> Result<f64> {
        let mut tape = Tape::inference(self.context);
        let vars = self.vars(&mut tape, values, |_| false)?;
        let result = (self.f)(&mut tape, &vars)?;
        let (y, weights) = (result.value().to_f32()?, self.weights(&result)?.to_f32()?);
        Ok(y.iter().zip(weights).map(|(y, w)| f64::from(*y) * f64::from(w)).sum())
    }

    /// `(f(x + h) - f(x - h)) / 2 h` for every element of input `i`, 2 h as f32 really has it.
    fn differences(&self, values: &[Vec<f32>], i: usize) -> Result<Vec<f64>> {
        let mut moved = values.to_vec();
        let mut differences = Vec::new();
        for (element, &x) in values[i].iter().enumerate() {
            let (up, down) = (x + STEP, x - STEP);
            moved[i][element] = up;
            let above = self.forward(&moved)?;
            moved[i][element] = down;
            let below = self.forward(&moved)?;
            moved[i][element] = x;
            differences.push((above - below) / (f64::from(up) - f64::from(down)));
        }
        Ok(differences)
    }
}

/// The checker, checked: it must accept a right derivative and object to wrong ones.
mod tests {
    use super::*;
    use crate::kernels;
    use crate::tape::Op;

    /// `gelu(x)` whose derivative is multiplied by `factor`, or is missing.
    struct Planted {
        x: Tensor,
        factor: Option<f32>,
    }

    impl Op for Planted {
        fn name(&self) -> &'static str {
            "planted"
        }

        fn backward(&self, grad: &Tensor, _: &crate::tape::Needs) -> Result<Vec<Option<Tensor>>> {
            let Some(factor) = self.factor else { return Ok(vec![None]) };
            let dx = kernels::gelu_backward::launch(grad.context(), &self.x, grad)?;
            Ok(vec![Some(kernels::affine::launch(grad.context(), &dx, factor, 0.0)?)])
        }
    }

    fn wrong(factor: Option<f32>) -> usize {
        let f = |tape: &mut Tape, inputs: &[Var]| {
            let x = inputs[0].value().clone();
            let y = kernels::gelu::launch(tape.context(), &x)?;
            Ok(tape.push(Planted { x, factor }, &[&inputs[0]], y))
        };
        compare(&[(&[3, 5], 1)], &f).unwrap().wrong.len()
    }

    #[test]
    fn planted_derivatives() {
        let cases =
            [(Some(1.0), true), (Some(1.02), false), (Some(-1.0), false), (Some(f32::NAN), false), (None, false)];
        let failed: Vec<_> = cases.into_iter().filter(|(factor, right)| (wrong(*factor) == 0) != *right).collect();
        assert!(failed.is_empty(), "(factor, should be accepted): {failed:?}");
    }
}
