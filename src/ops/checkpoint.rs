//! Gradient checkpointing: a piece of the forward pass that is run again in the backward pass instead of being remembered.
//! Chen et al., "Training Deep Nets with Sublinear Memory Cost", 2016.

use crate::error::Result;
use crate::tape::{Needs, Op, Tape, Var};
use crate::tensor::Tensor;

/// y = f(x), keeping x alone. `f` may use parameters: their gradients reach their slots in the second run.
///
/// # Errors
/// What `f` reports.
pub fn checkpoint(tape: &mut Tape, x: &Var, f: impl Fn(&mut Tape, &Var) -> Result<Var> + 'static) -> Result<Var> {
    let mut first = Tape::inference(tape.context());
    let input = first.constant(x.value().clone());
    let y = f(&mut first, &input)?.value().clone();
    let op = Checkpoint { x: x.value().clone(), f: Box::new(f) };
    Ok(tape.push_always(op, &[x], y))
}

type Piece = Box<dyn Fn(&mut Tape, &Var) -> Result<Var>>;

struct Checkpoint {
    x: Tensor,
    f: Piece,
}

impl Op for Checkpoint {
    fn name(&self) -> &'static str {
        "checkpoint"
    }

    fn backward(&self, grad: &Tensor, needs: &Needs) -> Result<Vec<Option<Tensor>>> {
        let mut again = Tape::within(grad.context(), needs);
        let x = again.leaf(self.x.clone());
        // The second run must give the first one's values: halves saturate as in a forward pass.
        let y = grad.context().saturating(true, || (self.f)(&mut again, &x))?;
        let gradients = again.backward(&y, grad)?;
        Ok(vec![gradients.get(&x).cloned()])
    }
}
