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
pub mod add;
pub mod attention;
pub mod attention_backward_key;
pub mod attention_backward_query;
pub mod attention_statistics;
pub mod channel_sum;
pub mod conv2d;
pub mod conv2d_transposed;
pub mod conv2d_weight;
pub mod matmul;
pub mod patch_conv;
pub mod patch_conv_transposed;
pub mod patch_conv_transposed_any;
pub mod patch_conv_weight;

/// Every kernel, in alphabetical order.
pub static ALL: &[Entry] = &[
    entry!(accumulate),
    entry!(add),
    entry!(attention),
    entry!(attention_backward_key),
    entry!(attention_backward_query),
    entry!(attention_statistics),
    entry!(channel_sum),
    entry!(conv2d),
    entry!(conv2d_transposed),
    entry!(conv2d_weight),
    entry!(matmul),
    entry!(patch_conv),
    entry!(patch_conv_transposed),
    entry!(patch_conv_transposed_any),
    entry!(patch_conv_weight),
];
