//! Gradient of attention's queries in halves through the device's cooperative matrices.

use super::attention_backward_query::{self, backward_cases, launch_as};
use super::attention_cooperative::{SIZES, WIDE, case_plan, wide_plan};
use crate::device::{Kernel, Part};
use crate::kernels::{Case, Fault};

/// As [`attention_backward_query::KERNEL`], for halves.
pub static KERNEL: Kernel = Kernel {
    name: "attention_cooperative_backward_query",
    source: include_str!("../../shaders/attention_cooperative_backward_query.wgsl"),
    parts: &[Part::Matrix, Part::Handed, Part::AttentionParams, Part::AttentionMatrix],
    bindings: attention_backward_query::BINDINGS,
    epilogues: false,
    twin: attention_backward_query::twin,
};

/// As those of [`super::attention_cooperative`].
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut cases = backward_cases(&SIZES, case_plan, true, |ctx, sizes, inputs, dqkv| {
        let delta = launch_as(ctx, case_plan(ctx, sizes, dqkv.dtype()), sizes, inputs, dqkv)?;
        Ok(vec![dqkv.clone(), delta])
    });
    cases.extend(backward_cases(&WIDE, wide_plan, true, |ctx, sizes, inputs, dqkv| {
        let delta = launch_as(ctx, wide_plan(ctx, sizes, dqkv.dtype()), sizes, inputs, dqkv)?;
        Ok(vec![dqkv.clone(), delta])
    }));
    cases
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "(product(row, cell) - mean) * p.scale", replace: "product(row, cell) * p.scale" },
    Fault { find: "(product(row, cell) - mean) * p.scale", replace: "(product(row, cell) - mean)" },
    Fault { find: "unit + GROUPS, own, slice, a1, b1, c1, d1", replace: "unit + GROUPS, own, slice, a1, b1, c1, c1" },
    Fault { find: "own, slice, a0, b0, c0, d0)", replace: "own, slice, a0, b0, d0, c0)" },
    Fault { find: "key + 4u <= p.tokens", replace: "true" },
    Fault { find: "part + subgroupShuffleXor(part, 1u)", replace: "part" },
    Fault { find: "copy_rows(GRAD, grads,", replace: "copy_rows(QKV, grads," },
    Fault { find: "copy_rows(QKV, values,", replace: "copy_rows(QKV, keys," },
    Fault { find: "mask[head / p.heads", replace: "mask[head" },
    Fault { find: "lse[head * rows + mine]", replace: "lse[head * rows + query]" },
    Fault { find: "select(0.0, mean, query + row < p.tokens)", replace: "mean" },
    Fault { find: "select(3u, 1u, buffer == GRAD)", replace: "3u" },
];
