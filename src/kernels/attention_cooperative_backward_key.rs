//! Gradients of attention's keys and values in halves through the device's cooperative matrices.

use super::attention_backward_key::{self, launch_as};
use super::attention_backward_query::{BINDINGS, backward_cases};
use super::attention_cooperative::{SIZES, case_plan};
use crate::device::{Kernel, Part};
use crate::kernels::{Case, Fault, samples};
use crate::shape::DType;

/// As [`attention_backward_key::KERNEL`], for halves.
pub static KERNEL: Kernel = Kernel {
    name: "attention_cooperative_backward_key",
    source: include_str!("../../shaders/attention_cooperative_backward_key.wgsl"),
    parts: &[Part::Matrix, Part::Handed, Part::AttentionParams, Part::AttentionMatrix],
    bindings: BINDINGS,
    epilogues: false,
    twin: attention_backward_key::twin,
};

/// As those of [`super::attention_cooperative`].
#[must_use]
pub fn cases() -> Vec<Case> {
    backward_cases(&SIZES, case_plan, true, |ctx, sizes, inputs, dqkv| {
        let delta = samples::normal(ctx, &sizes.statistics(), DType::F32, 4)?;
        launch_as(ctx, case_plan(ctx, sizes, dqkv.dtype()), sizes, inputs, &delta, dqkv)?;
        Ok(vec![dqkv.clone()])
    })
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "b = grown(b, 1.0, row, odd);", replace: "b = grown(b, 0.5, row, odd);" },
    Fault { find: "vec4(live) &", replace: "" },
    Fault { find: "< vec4(p.tokens));", replace: "<= vec4(p.tokens));" },
    Fault { find: "delta[statistic(head, query + 4u * cell)]", replace: "delta[statistic(head, query)]" },
    Fault { find: "mask[head / p.heads", replace: "mask[head" },
    Fault { find: "* p.scale;\n        stage(at", replace: ";\n        stage(at" },
];
