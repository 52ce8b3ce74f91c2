//! Gradients of attention's keys and values in halves through the device's cooperative matrices.

use super::attention_backward_key::{self, launch_as};
use super::attention_backward_query::backward_cases;
use super::attention_cooperative::{SIZES, case_plan};
use crate::device::{Kernel, Part};
use crate::kernels::{Case, Fault};

/// As [`attention_backward_key::KERNEL`], for halves.
pub static KERNEL: Kernel = Kernel {
    name: "attention_cooperative_backward_key",
    source: include_str!("../../shaders/attention_cooperative_backward_key.wgsl"),
    parts: &[Part::Matrix, Part::AttentionParams, Part::AttentionMatrix],
    bindings: attention_backward_key::BINDINGS,
    epilogues: false,
    twin: attention_backward_key::twin,
};

/// As those of [`super::attention_cooperative`].
#[must_use]
pub fn cases() -> Vec<Case> {
    backward_cases(&SIZES, case_plan, true, |ctx, sizes, inputs| {
        let (dk, dv) = launch_as(ctx, case_plan(ctx, sizes, inputs.q.dtype()), sizes, inputs)?;
        Ok(vec![dk, dv])
    })
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "b = grown(b, 1.0, lid);", replace: "b = grown(a, 1.0, lid);" },
    Fault { find: "vec4(live) &", replace: "" },
    Fault { find: "< vec4(p.queries));", replace: "<= vec4(p.queries));" },
    Fault { find: "statistic(head, 1u, query + 4u * cell)", replace: "statistic(head, 1u, query)" },
    Fault { find: "mask[head / p.heads", replace: "mask[head" },
    Fault { find: "* p.scale;\n        stage(at", replace: ";\n        stage(at" },
];
