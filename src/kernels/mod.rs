//! The kernels: one module per shader stem, with its launch, its CPU twin, its test cases and its planted faults.
//!
//! [`ALL`] is the one list: parity tests, fault tests, translation, `mmae kernels` and benchmarks walk it.

pub mod cases;
pub mod samples;

pub use cases::{Case, Entry, Fault, Tolerance};

macro_rules! entry {
    ($stem:ident) => {
        Entry { kernel: &$stem::KERNEL, cases: $stem::cases, faults: $stem::FAULTS }
    };
}

pub mod accumulate;
pub mod adamw;
pub mod add;
pub mod clamp;
pub mod ema;
pub mod overflow_check;
pub mod step_control;
pub mod sum_squares;

/// Every kernel, in alphabetical order.
pub static ALL: &[Entry] = &[
    entry!(accumulate),
    entry!(adamw),
    entry!(add),
    entry!(clamp),
    entry!(ema),
    entry!(overflow_check),
    entry!(step_control),
    entry!(sum_squares),
];
