//! A piece of work to measure: how to make it, how much it is, and how to know that its results are right.

use crate::device::Context;
use crate::error::Result;
use crate::kernels::Tolerance;
use crate::shape::DType;
use crate::tensor::Tensor;

/// Launches once and returns the outputs to compare.
type Run = Box<dyn Fn(&Context) -> Result<Vec<Tensor>>>;

/// Inputs on a device and the launch over them.
pub struct Work {
    /// What the launch reads, in the order that [`Expected`] is given it.
    pub inputs: Vec<Tensor>,
    run: Run,
}

impl Work {
    /// `run` launches once and returns the outputs to compare.
    pub fn new(inputs: &[&Tensor], run: impl Fn(&Context) -> Result<Vec<Tensor>> + 'static) -> Self {
        Self { inputs: inputs.iter().map(|t| (*t).clone()).collect(), run: Box::new(run) }
    }

    /// Launches once.
    ///
    /// # Errors
    /// What the launch reports.
    pub fn run(&self, ctx: &Context) -> Result<Vec<Tensor>> {
        (self.run)(ctx)
    }
}

/// Makes inputs of a storage from a seed.
pub type Make = Box<dyn Fn(&Context, DType, u64) -> Result<Work>>;

/// One value of an output from the formula, in f64: (inputs without padding, output, element without padding).
pub type Expected = Box<dyn Fn(&[Vec<f32>], usize, usize) -> f64>;

/// How a case is known to be right.
pub enum Check {
    /// The twin does the whole of it.
    Twin,
    /// The twin does a smaller shape, and some values of the whole are computed apart.
    Spots {
        /// The smaller shape; such that the launch chooses the same variant.
        reduced: Make,
        /// The formula.
        expected: Expected,
    },
}

/// A piece of work.
pub struct Case {
    /// Kernel that it measures.
    pub kernel: &'static str,
    /// Shapes and form.
    pub label: String,
    /// Arithmetic of one run, from the formula.
    pub flops: f64,
    /// Elements in stored tensors that one run must read and write, each once.
    pub stored: usize,
    /// Elements of four bytes besides.
    pub words: usize,
    /// How close results must be.
    pub tolerance: Tolerance,
    /// What the terms of sums come to that a variant for halves may round to half: more tolerance there.
    pub half_terms: f32,
    /// The work.
    pub make: Make,
    /// How it is checked.
    pub check: Check,
}

impl Case {
    /// Bytes that one run must move.
    #[must_use]
    pub fn bytes(&self, dtype: DType) -> f64 {
        self.stored as f64 * dtype.bytes() as f64 + 4.0 * self.words as f64
    }

    /// How close results must be in a storage, before what rounding them to it adds.
    #[must_use]
    pub fn tolerance_in(&self, dtype: DType) -> Tolerance {
        if dtype == DType::F16 { self.tolerance.with_half_terms(self.half_terms) } else { self.tolerance }
    }

    /// Kernel and label.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{} {}", self.kernel, self.label)
    }
}
