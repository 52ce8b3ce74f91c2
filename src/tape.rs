//! The tape: operations in execution order, each with what its derivative needs; walked backwards once.
//!
//! A rule receives the gradient of its output and returns the gradients of its inputs. One function here adds them up, but
//! for a rule that asks for the sum so far and adds in its own kernel. An operation without a derivative cannot be put on the tape.

use std::cell::RefCell;
use std::collections::HashSet;
use std::ops::Deref;
use std::rc::Rc;

use crate::device::Context;
use crate::error::{Error, Result};
use crate::kernels;
use crate::shape::DType;
use crate::tensor::Tensor;

/// A differentiable operation that has run: its saved tensors and its derivative.
pub trait Op {
    /// Name for errors and reports.
    fn name(&self) -> &'static str;

    /// Gradients of the inputs, in their order, given the gradient of the output. `None` where `needs` is false. A
    /// gradient has its input's type, except that of a parameter, which is f32.
    ///
    /// # Errors
    /// What a launch reports.
    fn backward(&self, grad: &Tensor, needs: &Needs) -> Result<Vec<Option<Tensor>>>;
}

/// Slots that hold a gradient of one backward pass already, by allocation and offset; clones, as the tapes of the pass have them,
/// share it.
#[derive(Clone, Debug, Default)]
pub struct Written(Rc<RefCell<HashSet<(u64, u64)>>>);

impl Written {
    /// Whether the pass has put a gradient there.
    #[must_use]
    pub fn contains(&self, slot: &Tensor) -> bool {
        self.0.borrow().contains(&key(slot))
    }

    /// Notes that it has; `false` if it had before.
    fn insert(&self, slot: &Tensor) -> bool {
        self.0.borrow_mut().insert(key(slot))
    }
}

/// Which inputs want a gradient, as a slice of booleans, and where that of a parameter may be put.
pub struct Needs {
    wanted: Vec<bool>,
    slots: Vec<Option<Tensor>>,
    written: Option<Written>,
    sums: RefCell<Vec<Option<Tensor>>>,
}

impl Deref for Needs {
    type Target = [bool];
    fn deref(&self) -> &[bool] {
        &self.wanted
    }
}

impl Needs {
    /// Memory for the gradient of input `i`, f32 of shape `dims`, all of which the rule must write: the parameter's slot
    /// while that is empty, else a new tensor, which the tape then adds.
    ///
    /// # Errors
    /// As [`Tensor::empty`].
    pub fn place(&self, i: usize, context: &Context, dims: &[usize]) -> Result<Tensor> {
        if let (Some(written), Some(slot)) = (&self.written, self.slots.get(i).and_then(Option::as_ref))
            && !written.contains(slot)
            && let Ok(place) = slot.reshape(dims)
        {
            return Ok(place);
        }
        Tensor::empty(context, dims, DType::F32)
    }

    /// [`Needs::place`] for a rule that can add in its own kernel: `true` beside memory that holds a gradient already, to which the
    /// rule must add its own.
    ///
    /// # Errors
    /// As [`Tensor::empty`].
    pub fn place_or_add(&self, i: usize, context: &Context, dims: &[usize]) -> Result<(Tensor, bool)> {
        let slot = self.slots.get(i).and_then(Option::as_ref);
        match slot.filter(|slot| self.holds(slot)).and_then(|slot| slot.reshape(dims).ok()) {
            Some(slot) => Ok((slot, true)),
            None => Ok((self.place(i, context, dims)?, false)),
        }
    }

    /// [`Needs::place_or_add`] for two inputs of one shape that one launch writes or adds to alike.
    ///
    /// # Errors
    /// As [`Tensor::empty`].
    pub fn places_or_add(&self, [i, j]: [usize; 2], ctx: &Context, dims: &[usize]) -> Result<(Tensor, Tensor, bool)> {
        match (self.place_or_add(i, ctx, dims)?, self.place_or_add(j, ctx, dims)?) {
            ((first, added), (second, too)) if added == too => Ok((first, second, added)),
            // Only one of them has something to add to: neither is added here.
            _ => Ok((self.place(i, ctx, dims)?, self.place(j, ctx, dims)?, false)),
        }
    }

    /// Memory for a rule that adds to a few rows of a large table: the slot, made zero unless it holds a gradient, else zeros.
    ///
    /// # Errors
    /// As [`Tensor::zeros`].
    pub fn zero_or_held(&self, i: usize, context: &Context, dims: &[usize]) -> Result<Tensor> {
        let Some(slot) = self.slots.get(i).and_then(Option::as_ref).and_then(|slot| slot.reshape(dims).ok()) else {
            return Tensor::zeros(context, dims, DType::F32);
        };
        if !self.holds(&slot) {
            slot.clear()?;
        }
        Ok(slot)
    }

    /// Whether a slot holds a gradient that must not be lost.
    fn holds(&self, slot: &Tensor) -> bool {
        self.written.as_ref().is_none_or(|written| written.contains(slot))
    }

    /// Takes the gradient that input `i` has received from operations after this one, in the input's type and number of values.
    /// What the rule returns for the input is then to be the sum of both. `None` for parameters and where nothing has come yet.
    #[must_use]
    pub fn take_sum(&self, i: usize) -> Option<Tensor> {
        self.sums.borrow_mut().get_mut(i).and_then(Option::take)
    }
}

fn key(slot: &Tensor) -> (u64, u64) {
    (slot.allocation_id(), slot.offset())
}

/// A value on the tape. Clones name the same value.
#[derive(Clone, Debug)]
pub struct Var {
    id: usize,
    value: Tensor,
    needs_grad: bool,
    parameter: bool,
}

impl Var {
    /// The computed tensor.
    #[must_use]
    pub const fn value(&self) -> &Tensor {
        &self.value
    }

    /// Whether this is a parameter, whose gradient is f32 whatever its own type.
    #[must_use]
    pub const fn is_parameter(&self) -> bool {
        self.parameter
    }

    /// Whether a gradient flows to this value.
    #[must_use]
    pub const fn needs_grad(&self) -> bool {
        self.needs_grad
    }
}

struct Node {
    op: Box<dyn Op>,
    inputs: Vec<Var>,
    output: usize,
}

/// Operations in execution order.
pub struct Tape {
    context: Context,
    nodes: Vec<Node>,
    /// Where a leaf's gradient goes, by value id.
    slots: Vec<Option<Tensor>>,
    recording: bool,
    /// Set when slots hold nothing that counts: the first gradient of a parameter is then written over what stands there.
    written: Option<Written>,
}

/// Gradients of the leaves that were asked for with [`Tape::leaf`].
pub struct Gradients {
    leaves: Vec<Option<Tensor>>,
}

impl Gradients {
    /// The gradient of a leaf; `None` when the result does not depend on it.
    #[must_use]
    pub fn get(&self, leaf: &Var) -> Option<&Tensor> {
        self.leaves.get(leaf.id).and_then(Option::as_ref)
    }
}

impl Tape {
    /// An empty tape.
    #[must_use]
    pub fn new(context: &Context) -> Self {
        Self { context: context.clone(), nodes: Vec::new(), slots: Vec::new(), recording: true, written: None }
    }

    /// An empty tape that writes the first gradient of each parameter over what stands in its slot instead of adding it, and notes
    /// the slot in `written`. Slots that are not there after the pass hold what they held before.
    #[must_use]
    pub fn overwriting(context: &Context, written: &Written) -> Self {
        Self { written: Some(written.clone()), ..Self::new(context) }
    }

    /// A tape inside the backward pass of another, which told its rule `needs`.
    #[must_use]
    pub fn within(context: &Context, needs: &Needs) -> Self {
        Self { written: needs.written.clone(), ..Self::new(context) }
    }

    /// A tape that remembers nothing: for inference.
    #[must_use]
    pub fn inference(context: &Context) -> Self {
        Self { recording: false, ..Self::new(context) }
    }

    /// The context that the operations run on.
    #[must_use]
    pub const fn context(&self) -> &Context {
        &self.context
    }

    /// Number of recorded operations.
    #[must_use]
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether nothing is recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    fn value(&mut self, value: Tensor, needs_grad: bool, slot: Option<Tensor>) -> Var {
        self.slots.push(slot);
        let parameter = self.slots.last().is_some_and(Option::is_some);
        Var { id: self.slots.len() - 1, value, needs_grad: needs_grad && self.recording, parameter }
    }

    /// A value without a gradient.
    pub fn constant(&mut self, value: Tensor) -> Var {
        self.value(value, false, None)
    }

    /// A value whose gradient [`Tape::backward`] returns.
    pub fn leaf(&mut self, value: Tensor) -> Var {
        self.value(value, true, None)
    }

    /// A parameter: its gradient is added to `slot` (f32, of the value's shape), or dropped when there is none.
    pub fn parameter(&mut self, value: Tensor, slot: Option<Tensor>) -> Var {
        let needs_grad = slot.is_some();
        self.value(value, needs_grad, slot)
    }

    /// Records an operation that has run.
    pub fn push(&mut self, op: impl Op + 'static, inputs: &[&Var], output: Tensor) -> Var {
        let needs_grad = inputs.iter().any(|v| v.needs_grad);
        self.record(op, inputs, output, needs_grad)
    }

    /// As [`Tape::push`], for an operation that uses parameters besides its inputs.
    pub fn push_always(&mut self, op: impl Op + 'static, inputs: &[&Var], output: Tensor) -> Var {
        self.record(op, inputs, output, true)
    }

    fn record(&mut self, op: impl Op + 'static, inputs: &[&Var], output: Tensor, needs_grad: bool) -> Var {
        let result = self.value(output, needs_grad, None);
        if result.needs_grad {
            let inputs = inputs.iter().map(|v| (*v).clone()).collect();
            self.nodes.push(Node { op: Box::new(op), inputs, output: result.id });
        }
        result
    }

    /// Walks the tape backwards from `result`. `seed` is the gradient of `result`, of its shape; for a scalar loss a scalar
    /// (the loss scale, in f16 training). Gradients of parameters are added to their slots, those of leaves returned.
    ///
    /// # Errors
    /// `Error::Shape` when the seed or a rule's gradient does not fit, else what a launch reports.
    pub fn backward(self, result: &Var, seed: &Tensor) -> Result<Gradients> {
        if seed.shape() != result.value.shape() {
            return Err(Error::shape("backward", result.value.shape(), seed.shape()));
        }
        let context = self.context.clone();
        context.saturating(false, move || self.walk(result, seed))
    }

    fn walk(mut self, result: &Var, seed: &Tensor) -> Result<Gradients> {
        let mut gradients: Vec<Option<Tensor>> = vec![None; self.slots.len()];
        gradients[result.id] = Some(seed.clone());
        // Popping drops each operation's saved tensors as soon as they have been used.
        while let Some(node) = self.nodes.pop() {
            let Some(grad) = gradients[node.output].take() else { continue };
            // Lent to the rule; what it does not take comes back. An input that stands twice is lent once.
            let lend = |v: &Var| if self.slots[v.id].is_none() { gradients[v.id].take() } else { None };
            let needs = Needs {
                sums: RefCell::new(node.inputs.iter().map(lend).collect()),
                wanted: node.inputs.iter().map(Var::needs_grad).collect(),
                slots: node.inputs.iter().map(|v| self.slots[v.id].clone()).collect(),
                written: self.written.clone(),
            };
            let returned = node.op.backward(&grad, &needs)?;
            for (input, sum) in node.inputs.iter().zip(needs.sums.into_inner()) {
                gradients[input.id] = gradients[input.id].take().or(sum);
            }
            for (input, gradient) in node.inputs.iter().zip(returned) {
                if let (true, Some(gradient)) = (input.needs_grad, gradient) {
                    if gradient.shape().stored() != input.value.shape().stored() {
                        return Err(Error::shape(node.op.name(), input.value.shape(), gradient.shape()));
                    }
                    self.accumulate(&mut gradients[input.id], input, gradient)?;
                }
            }
        }
        Ok(Gradients { leaves: gradients })
    }

    /// The one place where gradients are added.
    fn accumulate(&self, sum: &mut Option<Tensor>, input: &Var, gradient: Tensor) -> Result<()> {
        if let Some(slot) = &self.slots[input.id] {
            let first = self.written.as_ref().is_some_and(|written| written.insert(slot));
            // A rule that returns the slot has written or added there.
            if key(&gradient) == key(slot) {
                return Ok(());
            }
            if first {
                slot.clear()?;
            }
            let gradient = gradient.reshape(slot.dims()).unwrap_or(gradient);
            return kernels::accumulate::launch(&self.context, &gradient, slot, 1.0);
        }
        *sum = Some(match sum.take() {
            None => gradient,
            Some(before) => kernels::add::launch(&self.context, &before, &gradient)?,
        });
        Ok(())
    }
}

/// The scalar 1 in f32: the seed of a loss without scaling.
///
/// # Errors
/// As [`Tensor::from_f32`].
pub fn one(context: &Context) -> Result<Tensor> {
    Tensor::from_f32(context, &[], &[1.0], DType::F32)
}
