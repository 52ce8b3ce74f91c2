//! The list of cases: what the model launches, in the shapes in which it launches it.

pub(crate) mod attention;
mod convolutions;
mod latent;
mod losses;
pub(crate) mod products;
mod rows;
mod tokens;
mod updates;

use super::case::{Case, Check, Make, Work};
use crate::device::Context;
use crate::error::Result;
use crate::kernels::Tolerance;
use crate::shape::DType;

/// Shapes of the model that the cases are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shapes {
    /// Name as in `--sizes`.
    pub name: &'static str,
    /// B, samples.
    pub batch: usize,
    /// Image side in pixels, and patch side.
    pub image: (usize, usize),
    /// D, width of image tokens.
    pub width: usize,
    /// H, heads of attention.
    pub heads: usize,
    /// L, text tokens of a sample.
    pub text: usize,
    /// V, vocabulary, and E, width of its embeddings.
    pub vocabulary: (usize, usize),
    /// Z, width of the latent.
    pub latent: usize,
    /// Sides of square products.
    pub squares: &'static [usize],
    /// Elements of parameters in one update.
    pub parameters: usize,
    /// Rows of width D in a tensor well beyond the cache; 0: none.
    pub long_rows: usize,
}

/// A few seconds on anything, twins included: for tests.
pub const TINY: Shapes = Shapes {
    name: "tiny",
    batch: 2,
    image: (16, 8),
    width: 24,
    heads: 3,
    text: 5,
    vocabulary: (50, 12),
    latent: 16,
    squares: &[20],
    parameters: 1000,
    long_rows: 0,
};

/// The published model at batch 8: what a processor can do.
pub const M2AE: Shapes = Shapes {
    name: "m2ae",
    batch: 8,
    image: (224, 16),
    width: 768,
    heads: 12,
    text: 77,
    vocabulary: (8192, 512),
    latent: 512,
    squares: &[512, 1024],
    parameters: 4 << 20,
    long_rows: 0,
};

/// The published model at batch 64, and tensors well beyond the cache: for hardware.
pub const LARGE: Shapes =
    Shapes { name: "large", batch: 64, squares: &[1024, 2048, 4096], parameters: 64 << 20, long_rows: 65_536, ..M2AE };

/// All of them.
pub const SIZES: [&Shapes; 3] = [&TINY, &M2AE, &LARGE];

impl Shapes {
    /// N, image tokens of a sample.
    const fn tokens(&self) -> usize {
        let across = self.image.0 / self.image.1;
        across * across
    }

    /// The case that the steps of a kernel's ladder are measured on.
    pub(super) fn ladder_case(&self, kernel: &str) -> String {
        let side = self.squares.first().copied().unwrap_or(1);
        match kernel {
            "matmul" => format!("matmul {side}x{side}x{side} NN"),
            "attention" => format!("attention {}x{}x", self.batch, self.heads),
            other => format!("{other} {}x{}", self.rows(), self.width),
        }
    }

    /// Rows of all image tokens.
    const fn rows(&self) -> usize {
        self.batch * self.tokens()
    }
}

/// Every case, in the order of the report.
#[must_use]
pub fn all(shapes: &Shapes) -> Vec<Case> {
    let mut cases = products::cases(shapes);
    cases.extend(convolutions::cases(shapes));
    cases.extend(attention::cases(shapes));
    cases.extend(rows::cases(shapes));
    cases.extend(tokens::cases(shapes));
    cases.extend(latent::cases(shapes));
    cases.extend(losses::cases(shapes));
    cases.extend(updates::cases(shapes));
    cases
}

/// A case that the twin checks whole: kernel, label, FLOPs, stored elements, elements of four bytes.
fn twinned(
    kernel: &'static str,
    label: impl Into<String>,
    (flops, stored, words): (f64, usize, usize),
    tolerance: Tolerance,
    make: impl Fn(&Context, DType, u64) -> Result<Work> + 'static,
) -> Case {
    let make: Make = Box::new(make);
    Case { kernel, label: label.into(), flops, stored, words, tolerance, half_terms: 0.0, make, check: Check::Twin }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::bench::contracts::variant_of;
    use crate::bench::oracle::verdict;
    use crate::device::{Capabilities, Matrix};
    use crate::kernels::ALL;
    use crate::model::config::PRESETS;
    use crate::train::config::RunConfig;
    use crate::train::plan::plan;
    use crate::train::resolve::Sources;

    #[test]
    fn cases_name_kernels_once_and_say_what_they_cost() {
        let mut wrong = Vec::new();
        for shapes in SIZES {
            let cases = all(shapes);
            let mut names: Vec<_> = cases.iter().map(Case::name).collect();
            names.sort();
            wrong.extend(names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0].clone()));
            for case in &cases {
                let known = ALL.iter().any(|entry| entry.kernel.name == case.kernel);
                if !known || case.bytes(DType::F32) <= 0.0 || case.flops < 0.0 {
                    wrong.push(case.name());
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:?}");
    }

    #[test]
    fn every_case_passes_its_own_check_on_the_twins() {
        let ctx = Context::cpu();
        let mut wrong = Vec::new();
        for case in all(&TINY) {
            for dtype in [DType::F32, DType::F16] {
                let found = verdict(&case, &ctx, dtype, &|work| work.run(&ctx)).unwrap();
                if !found.wrong.is_empty() || !found.launches.iter().any(|l| l.kernel == case.kernel) {
                    wrong.push((case.name(), dtype, found));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn stated_work_is_what_the_kernels_count() {
        // The kernels' own counts are a second opinion; they may add the launch that finishes a sum.
        let mut wrong = Vec::new();
        for case in all(&TINY) {
            let ctx = Context::dry(None);
            let work = (case.make)(&ctx, DType::F32, 1).unwrap();
            let before = ctx.counters();
            work.run(&ctx).unwrap();
            let counted = ctx.counters().flops - before.flops;
            let unlike = (counted - case.flops).abs() > 0.3 * counted.max(case.flops);
            if unlike && case.flops.max(counted) > 500.0 {
                wrong.push((case.name(), case.flops, counted));
            }
        }
        assert!(wrong.is_empty(), "(case, stated, counted): {wrong:#?}");
    }

    /// Kernels of a training step of `preset` with some settings, on a device of these abilities.
    fn launched(preset: &str, set: &[&str], has: Capabilities) -> Vec<String> {
        let set: Vec<_> = set.iter().map(|s| (*s).to_owned()).collect();
        let sources = Sources { file: None, environment: &[], set: &set, preset: Some(preset), steps: None };
        let plan = plan(&RunConfig::resolve(&sources).unwrap(), Some(has)).unwrap();
        plan.kernels.into_iter().map(|kernel| kernel.name).collect()
    }

    #[test]
    fn every_kernel_of_a_training_step_has_a_case() {
        let measured: BTreeSet<_> = all(&TINY).iter().map(|case| case.kernel).collect();
        let host = Context::cpu().capabilities().clone();
        let (matrix, subgroup_size) = (Some(Matrix::M16), Some(32));
        let gpu = Capabilities { software: false, matrix, subgroup_size, workgroup_bytes: 48 << 10, ..host.clone() };
        let settings: [&[&str]; 4] = [
            &["train.precision=f32"],
            &["train.precision=f16", "train.micro_batches=2"],
            &["model.text_head=tokens"],
            &["model.expansion=dense"],
        ];
        let mut names = BTreeSet::new();
        for preset in PRESETS {
            for set in settings {
                names.extend(launched(preset, set, host.clone()));
                names.extend(launched(preset, set, gpu.clone()));
            }
        }
        assert!(names.contains("adamw") && names.contains("matmul_cooperative"), "no steps: {names:?}");
        // A variant is measured by the kernel's case, where the device chooses it; so is the end of a sum that was cut.
        let kernel = |name| variant_of(name).unwrap_or(if name == "matmul_sum" { "matmul" } else { name });
        let missing: Vec<_> = names.iter().filter(|name| !measured.contains(kernel(name))).collect();
        assert!(missing.is_empty(), "launched by a training step, but not measured: {missing:?}");
    }
}
