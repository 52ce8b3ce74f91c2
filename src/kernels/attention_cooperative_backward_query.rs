//! Gradient of attention's queries in halves through the device's cooperative matrices.

use super::attention_backward_query::{self, backward_cases, launch_as};
use super::attention_cooperative::{SIZES, case_plan};
use crate::device::{Kernel, Part};
use crate::kernels::{Case, Fault};

/// As [`attention_backward_query::KERNEL`], for halves.
pub static KERNEL: Kernel = Kernel {
    name: "attention_cooperative_backward_query",
    source: include_str!("../../shaders/attention_cooperative_backward_query.wgsl"),
    parts: &[Part::Matrix, Part::AttentionParams, Part::AttentionMatrix],
    bindings: attention_backward_query::BINDINGS,
    epilogues: false,
    twin: attention_backward_query::twin,
};

/// As those of [`super::attention_cooperative`].
#[must_use]
pub fn cases() -> Vec<Case> {
    backward_cases(&SIZES, case_plan, true, |ctx, sizes, inputs| {
        Ok(vec![launch_as(ctx, case_plan(ctx, sizes, inputs.q.dtype()), sizes, inputs)?])
    })
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "(product(row, cell) - delta) * p.scale", replace: "product(row, cell) * p.scale" },
    Fault { find: "(product(row, cell) - delta) * p.scale", replace: "(product(row, cell) - delta)" },
    Fault { find: "copy_rows(GRAD, 0u,", replace: "copy_rows(Q, 0u," },
    Fault { find: "copy_rows(V, OTHER,", replace: "copy_rows(K, OTHER," },
    Fault { find: "mask[head / p.heads", replace: "mask[head" },
    Fault { find: "statistic(head, 0u, query + lid)", replace: "statistic(head, 0u, query)" },
];
