//! The kernels: one module per shader stem, with its launch, its CPU twin, its test cases and its planted faults.
//!
//! [`ALL`] is the one list: parity tests, fault tests, translation, `mmae kernels` and benchmarks walk it.

pub mod cases;
mod masks;
mod rows;
pub mod samples;

pub use cases::{Case, Entry, Fault, Tolerance, differences};

macro_rules! entry {
    ($stem:ident) => {
        entry!($stem, |_, _| None)
    };
    ($stem:ident, $missing:expr) => {
        Entry { kernel: &$stem::KERNEL, cases: $stem::cases, faults: $stem::FAULTS, missing: $missing }
    };
}

pub mod accumulate;
pub mod adamw;
pub mod add;
pub mod add_rows;
pub mod affine;
pub mod attention;
pub mod attention_backward_key;
pub mod attention_backward_query;
pub mod attention_cooperative;
pub mod attention_cooperative_backward_key;
pub mod attention_cooperative_backward_query;
pub mod attention_plan;
pub mod attention_tiled;
pub mod attention_tiled_backward_key;
pub mod attention_tiled_backward_query;
pub mod cast;
pub mod channel_sum;
pub mod clamp;
pub mod column_sum;
pub mod columns;
pub mod concat;
pub mod conv2d;
pub mod conv2d_transposed;
pub mod conv2d_weight;
pub mod cross_entropy;
pub mod cross_entropy_backward;
pub mod dot;
pub mod dropout;
pub mod ema;
pub mod embedding;
pub mod embedding_backward;
pub mod embedding_links;
pub mod exp_scale;
pub mod gather_tokens;
pub mod gelu;
pub mod gelu_backward;
pub mod infonce;
pub mod infonce_backward;
pub mod l2_normalise;
pub mod l2_normalise_backward;
pub mod layernorm;
pub mod layernorm_backward;
pub mod layernorm_backward_params;
pub mod loss_mean;
pub mod mask_product;
pub mod masked_mean;
pub mod masked_mean_backward;
pub mod masked_mse;
pub mod masked_mse_backward;
pub mod matmul;
mod matmul_cases;
pub mod matmul_cooperative;
pub mod matmul_images;
pub mod matmul_plan;
pub mod matmul_sum;
pub mod matmul_tiled;
mod matmul_twin;
pub mod overflow_check;
pub mod pad_heads;
pub mod patch_conv;
pub mod patch_conv_transposed;
pub mod patch_conv_transposed_any;
pub mod patch_conv_weight;
pub mod permutation_mask;
pub mod philox_bits;
pub mod philox_fill;
pub mod replace_rows;
pub mod replace_rows_backward;
pub mod row_sum;
pub mod scale_scalar;
pub mod scale_shift;
pub mod scale_shift_backward_input;
pub mod scale_shift_backward_params;
pub mod scatter_tokens;
pub mod softmax;
pub mod softmax_backward;
pub mod step_control;
pub mod sum_squares;
pub mod top_k;
pub mod weighted_sum;

/// Every kernel, in alphabetical order.
pub static ALL: &[Entry] = &[
    entry!(accumulate),
    entry!(adamw),
    entry!(add),
    entry!(add_rows),
    entry!(affine),
    entry!(attention),
    entry!(attention_backward_key),
    entry!(attention_backward_query),
    entry!(attention_cooperative, attention_cooperative::missing),
    entry!(attention_cooperative_backward_key, attention_cooperative::missing),
    entry!(attention_cooperative_backward_query, attention_cooperative::missing),
    entry!(attention_tiled, attention_tiled::missing),
    entry!(attention_tiled_backward_key, attention_tiled::missing),
    entry!(attention_tiled_backward_query, attention_tiled::missing),
    entry!(cast),
    entry!(channel_sum),
    entry!(clamp),
    entry!(column_sum),
    entry!(columns),
    entry!(concat),
    entry!(conv2d),
    entry!(conv2d_transposed),
    entry!(conv2d_weight),
    entry!(cross_entropy),
    entry!(cross_entropy_backward),
    entry!(dot),
    entry!(dropout),
    entry!(ema),
    entry!(embedding),
    entry!(embedding_backward),
    entry!(embedding_links),
    entry!(exp_scale),
    entry!(gather_tokens),
    entry!(gelu),
    entry!(gelu_backward),
    entry!(infonce),
    entry!(infonce_backward),
    entry!(l2_normalise),
    entry!(l2_normalise_backward),
    entry!(layernorm),
    entry!(layernorm_backward),
    entry!(layernorm_backward_params),
    entry!(loss_mean),
    entry!(mask_product),
    entry!(masked_mean),
    entry!(masked_mean_backward),
    entry!(masked_mse),
    entry!(masked_mse_backward),
    entry!(matmul),
    entry!(matmul_cooperative, matmul_cooperative::missing),
    entry!(matmul_sum),
    entry!(matmul_tiled),
    entry!(overflow_check),
    entry!(pad_heads),
    entry!(patch_conv),
    entry!(patch_conv_transposed),
    entry!(patch_conv_transposed_any),
    entry!(patch_conv_weight),
    entry!(permutation_mask),
    entry!(philox_bits),
    entry!(philox_fill),
    entry!(replace_rows),
    entry!(replace_rows_backward),
    entry!(row_sum),
    entry!(scale_scalar),
    entry!(scale_shift),
    entry!(scale_shift_backward_input),
    entry!(scale_shift_backward_params),
    entry!(scatter_tokens),
    entry!(softmax),
    entry!(softmax_backward),
    entry!(step_control),
    entry!(sum_squares),
    entry!(top_k),
    entry!(weighted_sum),
];
