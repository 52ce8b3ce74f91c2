//! Test cases of kernels: what to launch, and how close GPU and twin must be.

use crate::device::{Context, Kernel};
use crate::error::Result;
use crate::shape::DType;
use crate::tensor::Tensor;

/// A kernel with its checks.
pub struct Entry {
    /// The kernel.
    pub kernel: &'static Kernel,
    /// Its table of cases.
    pub cases: fn() -> Vec<Case>,
    /// Wrong texts that the cases must object to.
    pub faults: &'static [Fault],
    /// Why the cases cannot run on this device with stored tensors of this type; `None` where they can.
    pub missing: fn(&Context, DType) -> Option<&'static str>,
}

/// A wrong text: `find` stands in the shader, `replace` still compiles.
#[derive(Clone, Copy, Debug)]
pub struct Fault {
    /// Text in the kernel's file.
    pub find: &'static str,
    /// What is put there instead.
    pub replace: &'static str,
}

/// How far a result may be from the twin's: `|x - ref| <= abs + rel * |ref|`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Absolute part.
    pub abs: f32,
    /// Part relative to the twin's value.
    pub rel: f32,
}

impl Tolerance {
    /// Bit for bit: integers, copies, masks.
    #[must_use]
    pub const fn exact() -> Self {
        Self { abs: 0.0, rel: 0.0 }
    }

    /// A few units in the last place: elementwise formulas, whose transcendental functions differ between drivers.
    #[must_use]
    pub const fn elementwise() -> Self {
        Self { abs: 2e-6, rel: 2e-5 }
    }

    /// Sums of `len` terms of order one: rounding grows like the square root of the length when signs vary; the absolute
    /// part covers sums that cancel.
    #[must_use]
    pub fn sum(len: usize) -> Self {
        let root = (len.max(1) as f32).sqrt();
        Self { abs: 4e-6 * root, rel: 2e-5 + 1e-6 * root }
    }

    /// This tolerance plus what rounding to half adds (inputs are rounded alike on both sides; each stored output once,
    /// and it may fall on the other side of a tie): one unit of 2^-10 relative, and the smallest half absolute.
    #[must_use]
    pub fn with_half(self) -> Self {
        Self { abs: self.abs * 4.0 + 1e-6, rel: self.rel + 1.0 / 1024.0 }
    }

    /// This tolerance plus what it adds to round the terms of a sum to half, where their magnitudes come to about `total`: half a
    /// unit of 2^-10 each.
    #[must_use]
    pub fn with_half_terms(self, total: f32) -> Self {
        Self { abs: self.abs + total / 2048.0, ..self }
    }

    /// Whether `got` is close enough to `want`. NaN equals only NaN.
    #[must_use]
    pub fn accepts(&self, got: f32, want: f32) -> bool {
        if want.is_nan() || got.is_nan() {
            return want.is_nan() && got.is_nan();
        }
        got == want || (got - want).abs() <= self.abs + self.rel * want.abs()
    }
}

type Run = Box<dyn Fn(&Context, DType) -> Result<Vec<Tensor>> + Send + Sync>;

/// One case: makes its inputs, launches, returns the outputs to compare.
pub struct Case {
    /// Sizes and flags, for the report.
    pub label: String,
    /// How close GPU and twin must be.
    pub tolerance: Tolerance,
    /// The launch; the second argument is the element type of stored tensors.
    pub run: Run,
}

impl Case {
    /// A case from a closure.
    pub fn new(
        label: impl Into<String>,
        tolerance: Tolerance,
        run: impl Fn(&Context, DType) -> Result<Vec<Tensor>> + Send + Sync + 'static,
    ) -> Self {
        Self { label: label.into(), tolerance, run: Box::new(run) }
    }

    /// Runs the case on `gpu` and on `cpu` and lists where they differ, at most `most` lines: output, element, values;
    /// also touched guard words. Empty when all is well.
    ///
    /// # Errors
    /// What a launch reports on either side.
    pub fn compare(&self, gpu: &Context, cpu: &Context, dtype: DType, most: usize) -> Result<Vec<String>> {
        let (got, want) = ((self.run)(gpu, dtype)?, (self.run)(cpu, dtype)?);
        let mut wrong = differences(&got, &want, self.tolerance, dtype, most)?;
        for (o, a) in got.iter().enumerate().filter(|(_, a)| a.dtype() != DType::U32) {
            if !a.guard_holds()? {
                wrong.push(format!("output {o} {}: wrote behind its end", a.shape()));
            }
        }
        Ok(wrong)
    }
}

/// Where `got` differs from what the twins made of the same launch, at most `most` lines: output, element, values.
/// `dtype` is that of the stored tensors, which widens the tolerance unless it is exact.
///
/// # Errors
/// What the device reports.
pub fn differences(
    got: &[Tensor],
    want: &[Tensor],
    tolerance: Tolerance,
    dtype: DType,
    most: usize,
) -> Result<Vec<String>> {
    let exact = tolerance == Tolerance::exact();
    let tolerance = if dtype == DType::F16 && !exact { tolerance.with_half() } else { tolerance };
    let mut wrong = Vec::new();
    for (o, (a, b)) in got.iter().zip(want).enumerate() {
        if a.dtype() == DType::U32 {
            let (a, b) = (a.to_bytes()?, b.to_bytes()?);
            if a != b {
                let at = a.iter().zip(&b).position(|(x, y)| x != y).unwrap_or(0) / 4;
                let word =
                    |bytes: &[u8]| bytes.get(at * 4..at * 4 + 4).map(|w| u32::from_le_bytes([w[0], w[1], w[2], w[3]]));
                wrong.push(format!("output {o}, word {at}: {:?}, twin {:?}", word(&a), word(&b)));
            }
            continue;
        }
        let (x, y) = (a.to_f32_padded()?, b.to_f32_padded()?);
        let stride = a.shape().stride();
        for (i, (&x, &y)) in x.iter().zip(&y).enumerate() {
            if !tolerance.accepts(x, y) {
                let (row, column) = (i / stride, i % stride);
                wrong.push(format!("output {o} {}, row {row} column {column}: {x:e}, twin {y:e}", a.shape()));
                if wrong.len() >= most {
                    return Ok(wrong);
                }
            }
        }
    }
    Ok(wrong)
}
