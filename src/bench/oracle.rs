//! Correct before fast: a case's results against the twin, and against the formula where the twin would take too long.

use super::case::{Case, Check, Expected, Make, Work};
use crate::device::philox::philox;
use crate::device::{Context, Launched};
use crate::error::Result;
use crate::kernels::{Tolerance, differences};
use crate::shape::DType;
use crate::tensor::Tensor;

/// Values of each output that are computed apart.
const SPOTS: usize = 48;
/// Lines about differences that are kept.
const MOST: usize = 4;

/// What the check found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Verdict {
    /// Differences; empty when the results are right.
    pub wrong: Vec<String>,
    /// What was compared with what.
    pub how: String,
    /// The launches of one run.
    pub launches: Vec<Launched>,
    /// Bytes of its outputs.
    pub written: u64,
}

/// Runs a case once and compares. `run` makes the launches, so that a caller can put another text in a kernel's place.
///
/// # Errors
/// What a launch reports.
pub fn verdict(
    case: &Case,
    ctx: &Context,
    dtype: DType,
    run: &dyn Fn(&Work) -> Result<Vec<Tensor>>,
) -> Result<Verdict> {
    let work = (case.make)(ctx, dtype, 1)?;
    let (outputs, launches) = ctx.traced(|| run(&work))?;
    let written = outputs.iter().map(|output| output.bytes()).sum();
    match &case.check {
        Check::Twin => {
            let wrong = twin(&case.make, &outputs, case.tolerance_in(dtype), dtype)?;
            Ok(Verdict { wrong, how: "twin".into(), launches, written })
        }
        Check::Spots { reduced, expected } => {
            let small = reduced(ctx, dtype, 1)?;
            let (small_outputs, small_launches) = ctx.traced(|| run(&small))?;
            let mut wrong = twin(reduced, &small_outputs, case.tolerance_in(dtype), dtype)?;
            wrong.extend(spots(&work, &outputs, expected, case.tolerance_in(dtype), dtype)?);
            let variants = |all: &[Launched]| all.iter().map(variant).collect::<Vec<_>>();
            let same = variants(&small_launches) == variants(&launches);
            let smaller = if same { "twin at a smaller shape" } else { "twin at a smaller shape, of another variant" };
            Ok(Verdict { wrong, how: format!("{smaller}; {SPOTS} values in f64"), launches, written })
        }
    }
}

/// What chose the text and its form.
fn variant(launch: &Launched) -> (&'static str, Vec<(&'static str, u64)>) {
    (launch.kernel, launch.constants.iter().map(|(name, value)| (*name, value.to_bits())).collect())
}

fn twin(make: &Make, outputs: &[Tensor], tolerance: Tolerance, dtype: DType) -> Result<Vec<String>> {
    let cpu = Context::cpu();
    let want = make(&cpu, dtype, 1)?.run(&cpu)?;
    differences(outputs, &want, tolerance, dtype, MOST)
}

/// Some values of every output: the first, the last, and others drawn from all of them.
fn spots(
    work: &Work,
    outputs: &[Tensor],
    expected: &Expected,
    tolerance: Tolerance,
    dtype: DType,
) -> Result<Vec<String>> {
    let tolerance = if dtype == DType::F16 { tolerance.with_half() } else { tolerance };
    let inputs = work.inputs.iter().map(Tensor::to_f32).collect::<Result<Vec<_>>>()?;
    let mut wrong = Vec::new();
    for (o, output) in outputs.iter().enumerate() {
        let values = output.to_f32()?;
        let draws = (0..SPOTS as u32).map(|i| philox([i, o as u32, 0, 0], [7, 7])[0] as usize % values.len());
        for at in draws.chain([0, values.len() - 1]) {
            let want = expected(&inputs, o, at);
            if !tolerance.accepts(values[at], want as f32) && wrong.len() < MOST {
                wrong.push(format!("output {o} {}, element {at}: {:e}, formula {want:e}", output.shape(), values[at]));
            }
        }
    }
    Ok(wrong)
}
