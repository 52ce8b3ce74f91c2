//! The kernels: one module per shader stem, with its launch, its CPU twin, its test cases and its planted faults.
//!
//! [`ALL`] is the one list: parity tests, fault tests, translation, `mmae kernels` and benchmarks walk it.

pub mod cases;
mod masks;
mod rows;
pub mod samples;

pub use cases::{Case, Entry, Fault, Tolerance};

macro_rules! entry {
    ($stem:ident) => {
        Entry { kernel: &$stem::KERNEL, cases: $stem::cases, faults: $stem::FAULTS }
    };
}

pub mod accumulate;
pub mod add;
pub mod column_sum;
pub mod cross_entropy;
pub mod cross_entropy_backward;
pub mod dot;
pub mod embedding;
pub mod embedding_backward;
pub mod embedding_links;
pub mod exp_scale;
pub mod infonce;
pub mod infonce_backward;
pub mod l2_normalise;
pub mod l2_normalise_backward;
pub mod layernorm;
pub mod layernorm_backward;
pub mod layernorm_backward_params;
pub mod loss_mean;
pub mod masked_mean;
pub mod masked_mean_backward;
pub mod masked_mse;
pub mod masked_mse_backward;
pub mod row_sum;
pub mod scale_scalar;
pub mod softmax;
pub mod softmax_backward;
pub mod top_k;
pub mod weighted_sum;

/// Every kernel, in alphabetical order.
pub static ALL: &[Entry] = &[
    entry!(accumulate),
    entry!(add),
    entry!(column_sum),
    entry!(cross_entropy),
    entry!(cross_entropy_backward),
    entry!(dot),
    entry!(embedding),
    entry!(embedding_backward),
    entry!(embedding_links),
    entry!(exp_scale),
    entry!(infonce),
    entry!(infonce_backward),
    entry!(l2_normalise),
    entry!(l2_normalise_backward),
    entry!(layernorm),
    entry!(layernorm_backward),
    entry!(layernorm_backward_params),
    entry!(loss_mean),
    entry!(masked_mean),
    entry!(masked_mean_backward),
    entry!(masked_mse),
    entry!(masked_mse_backward),
    entry!(row_sum),
    entry!(scale_scalar),
    entry!(softmax),
    entry!(softmax_backward),
    entry!(top_k),
    entry!(weighted_sum),
];
