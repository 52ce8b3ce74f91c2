//! Differentiable operations: one module per operation, with its forward launch and its derivative.
