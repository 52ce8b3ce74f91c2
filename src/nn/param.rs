//! One parameter: a name over windows of the arenas.

use std::sync::Arc;

use crate::shape::Shape;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// A named parameter. Clones are cheap and share memory.
#[derive(Clone, Debug)]
pub struct Param {
    /// Its name in weight files.
    pub name: Arc<str>,
    /// Its axes.
    pub shape: Shape,
    /// Its value: f32, but halves for one that never changes in f16 precision.
    pub value: Tensor,
    /// The value that kernels read beside activations: `value` itself, or its f16 copy.
    pub working: Tensor,
    /// Where its gradient is added up, f32; `None` when it is frozen.
    pub grad: Option<Tensor>,
}

impl Param {
    /// The parameter on a tape, in the storage of activations. Its gradient goes to its slot.
    pub fn var(&self, tape: &mut Tape) -> Var {
        tape.parameter(self.working.clone(), self.grad.clone())
    }

    /// Whether it is trained.
    #[must_use]
    pub const fn is_trained(&self) -> bool {
        self.grad.is_some()
    }
}
