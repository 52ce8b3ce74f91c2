//! One launch of a kernel: tensors, parameters, constants, grid, cost. The same description runs on the GPU, on the twin,
//! or is only counted.

use bytemuck::Pod;

use super::context::Context;
use super::kernel::{Binding, Element, EpilogueKind, Kernel};
use super::view::View;
use crate::error::{Error, Result};
use crate::shape::DType;

/// A fused operation on the result, with its buffers.
#[derive(Clone, Copy)]
pub enum Epilogue<'a> {
    /// The result as it is.
    None,
    /// Plus `bias`, one row.
    Bias(&'a View),
    /// Plus `bias`, then GELU; `pre_activation` receives the value before GELU.
    BiasGelu { bias: &'a View, pre_activation: &'a View },
    /// Plus `bias`, plus `residual` of the result's shape.
    BiasResidual { bias: &'a View, residual: &'a View },
    /// Times the slope of GELU at `pre_activation`, of the result's shape.
    GeluSlope { pre_activation: &'a View },
    /// Plus what stands in the result's place already.
    Added,
    /// Plus one value of `bias` for each channel, where the result is images.
    BiasChannel(&'a View),
    /// The result as it is, and in `sums`, f32, those of the rows of the left operand, which is stored transposed: one behind the
    /// other for each of a batch. With `added` both are added to what stands in their places already.
    RowSums { sums: &'a View, added: bool },
}

impl Epilogue<'_> {
    /// Which one, without its buffers.
    #[must_use]
    pub const fn kind(&self) -> EpilogueKind {
        match self {
            Self::None => EpilogueKind::None,
            Self::Bias(_) => EpilogueKind::Bias,
            Self::BiasGelu { .. } => EpilogueKind::BiasGelu,
            Self::BiasResidual { .. } => EpilogueKind::BiasResidual,
            Self::GeluSlope { .. } => EpilogueKind::GeluSlope,
            Self::Added => EpilogueKind::Added,
            Self::BiasChannel(_) => EpilogueKind::BiasChannel,
            Self::RowSums { .. } => EpilogueKind::RowSums,
        }
    }
}

/// A launch being described. Finish with [`Launch::run`].
pub struct Launch<'a> {
    pub(super) kernel: &'static Kernel,
    pub(super) tensors: Vec<&'a View>,
    pub(super) epilogue: EpilogueKind,
    pub(super) params: Vec<u8>,
    pub(super) constants: Vec<(&'static str, f64)>,
    pub(super) groups: u64,
    pub(super) flops: f64,
}

impl<'a> Launch<'a> {
    /// A launch of `kernel` with nothing bound.
    #[must_use]
    pub const fn new(kernel: &'static Kernel) -> Self {
        Self {
            kernel,
            tensors: Vec::new(),
            epilogue: EpilogueKind::None,
            params: Vec::new(),
            constants: Vec::new(),
            groups: 1,
            flops: 0.0,
        }
    }

    /// Binds group 0, in the order of the kernel's bindings. Call before [`Launch::epilogue`].
    #[must_use]
    pub fn tensors(mut self, tensors: &[&'a View]) -> Self {
        self.tensors.extend_from_slice(tensors);
        self
    }

    /// Joins an epilogue and binds its buffers.
    #[must_use]
    pub fn epilogue(mut self, epilogue: Epilogue<'a>) -> Self {
        self.epilogue = epilogue.kind();
        match epilogue {
            Epilogue::None | Epilogue::Added => {}
            Epilogue::Bias(bias) | Epilogue::BiasChannel(bias) => self.tensors.push(bias),
            Epilogue::GeluSlope { pre_activation } => self.tensors.push(pre_activation),
            Epilogue::BiasGelu { bias, pre_activation } => self.tensors.extend([bias, pre_activation]),
            Epilogue::BiasResidual { bias, residual } => self.tensors.extend([bias, residual]),
            Epilogue::RowSums { sums, added } => {
                self.tensors.push(sums);
                return self.constant("ADDED", f64::from(added));
            }
        }
        self
    }

    /// Sets the parameter struct (at most 128 bytes).
    #[must_use]
    pub fn params<P: Pod>(mut self, params: &P) -> Self {
        self.params = bytemuck::bytes_of(params).to_vec();
        self
    }

    /// Sets an override constant; booleans are 0 and 1.
    #[must_use]
    pub fn constant(mut self, name: &'static str, value: impl Into<f64>) -> Self {
        self.constants.push((name, value.into()));
        self
    }

    /// Number of workgroups.
    #[must_use]
    pub const fn groups(mut self, groups: usize) -> Self {
        self.groups = groups as u64;
        self
    }

    /// Arithmetic of the launch, for cost reports.
    #[must_use]
    pub const fn flops(mut self, flops: f64) -> Self {
        self.flops = flops;
        self
    }

    /// Checks the launch against the kernel's declaration and hands it to the context's executor.
    ///
    /// # Errors
    /// `Error::Kernel` when tensors do not fit the bindings; what the device reports otherwise.
    pub fn run(self, ctx: &Context) -> Result<()> {
        self.check()?;
        ctx.execute(&self)
    }

    /// Bytes that the launch must move at least: every bound tensor once.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.tensors.iter().map(|t| t.bytes()).sum()
    }

    /// Bytes of the tensors that the kernel writes, whether it reads them too or not.
    pub(super) fn written(&self) -> u64 {
        self.bindings().zip(&self.tensors).filter(|(binding, _)| binding.write).map(|(_, t)| t.bytes()).sum()
    }

    /// All bindings, group 0 then group 1.
    pub(super) fn bindings(&self) -> impl Iterator<Item = &'static Binding> {
        self.kernel.bindings.iter().chain(self.epilogue.bindings())
    }

    /// The element types of the stored bindings and of the output binding.
    pub(super) fn dtypes(&self) -> (DType, DType) {
        let of =
            |element| self.bindings().zip(&self.tensors).find(|(b, _)| b.element == element).map(|(_, t)| t.dtype());
        let output = of(Element::Output).unwrap_or(DType::F32);
        // With nothing stored bound, an epilogue stores nothing but the output.
        let stored = of(Element::Stored).unwrap_or(if self.kernel.epilogues { output } else { DType::F32 });
        (stored, output)
    }

    fn check(&self) -> Result<()> {
        let expected = self.bindings().count();
        if self.tensors.len() != expected {
            return Err(self.error(format!("{} tensors bound, {expected} declared", self.tensors.len())));
        }
        let (stored, output) = self.dtypes();
        for (binding, tensor) in self.bindings().zip(&self.tensors) {
            let wanted = match binding.element {
                Element::Stored => stored,
                Element::Output => output,
                Element::F32 => DType::F32,
                Element::U32 => DType::U32,
            };
            if tensor.dtype() != wanted || (binding.element == Element::Stored && wanted == DType::U32) {
                return Err(self.error(format!("{} is {}, expected {wanted}", binding.name, tensor.dtype())));
            }
        }
        let bound: Vec<_> = self.bindings().zip(&self.tensors).collect();
        for (i, (first, a)) in bound.iter().enumerate() {
            for (second, b) in &bound[i + 1..] {
                // A device takes windows of one buffer that are all written, or all read, but not a mixture.
                let apart = a.offset() + a.bytes() <= b.offset() || b.offset() + b.bytes() <= a.offset();
                let allowed = if first.write && second.write { apart } else { !first.write && !second.write };
                if a.allocation_id() == b.allocation_id() && !allowed {
                    let names = format!("{} and {}", first.name, second.name);
                    return Err(self.error(format!("{names} lie in one buffer, and one of them is written")));
                }
            }
        }
        Ok(())
    }

    pub(super) fn error(&self, message: String) -> Error {
        let name = self.kernel.name;
        Error::Kernel { name: name.into(), file: format!("src/kernels/{name}.rs"), line: 0, message }
    }
}
