//! Gradients of attention's keys and values in halves through the device's cooperative matrices.

use super::attention_backward_key::{self, launch_as};
use super::attention_backward_query::{BINDINGS, backward_cases};
use super::attention_cooperative::{SIZES, WIDE, case_plan, wide_plan};
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
    let mut cases = backward_cases(&SIZES, case_plan, true, |ctx, sizes, inputs, dqkv| {
        let delta = samples::normal(ctx, &sizes.statistics(), DType::F32, 4)?;
        launch_as(ctx, case_plan(ctx, sizes, dqkv.dtype()), sizes, inputs, &delta, dqkv)?;
        Ok(vec![dqkv.clone()])
    });
    cases.extend(backward_cases(&WIDE, wide_plan, true, |ctx, sizes, inputs, dqkv| {
        let delta = samples::normal(ctx, &sizes.statistics(), DType::F32, 4)?;
        launch_as(ctx, wide_plan(ctx, sizes, dqkv.dtype()), sizes, inputs, &delta, dqkv)?;
        Ok(vec![dqkv.clone()])
    }));
    cases
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "store(to + p.row, slice, row, odd)", replace: "store(to, slice, row, odd)" },
    Fault { find: "unit + GROUPS, own, slice, v1, w1, x1, y1)", replace: "unit + GROUPS, own, slice, v1, w1, x1, x1)" },
    Fault { find: "own, slice, a0, b0, c0, d0)", replace: "own, slice, a0, b0, d0, c0)" },
    Fault { find: "live && i + 4u <= p.tokens", replace: "live" },
    Fault { find: "vec4(live) &", replace: "" },
    Fault { find: "< vec4(p.tokens));", replace: "<= vec4(p.tokens));" },
    Fault { find: "delta[statistic(head, query + 4u * cell)]", replace: "delta[statistic(head, query)]" },
    Fault { find: "mask[head / p.heads", replace: "mask[head" },
    Fault { find: "* p.scale;\n        stage(at", replace: ";\n        stage(at" },
];
