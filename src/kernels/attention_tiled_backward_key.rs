//! Gradients of attention's keys and values through tiles in workgroup memory, for GPUs.

use super::attention_backward_key::{self, launch_as};
use super::attention_backward_query::{BINDINGS, backward_cases};
use super::attention_tiled::{PARTS, SIZES, case_plan};
use crate::device::Kernel;
use crate::kernels::{Case, Fault, samples};
use crate::shape::DType;

/// As [`attention_backward_key::KERNEL`], for heads of up to [`super::attention_tiled::WIDEST`] channels.
pub static KERNEL: Kernel = Kernel {
    name: "attention_tiled_backward_key",
    source: include_str!("../../shaders/attention_tiled_backward_key.wgsl"),
    parts: PARTS,
    bindings: BINDINGS,
    epilogues: false,
    twin: attention_backward_key::twin,
};

/// As those of [`super::attention_tiled`].
#[must_use]
pub fn cases() -> Vec<Case> {
    backward_cases(&SIZES, case_plan, false, |ctx, sizes, inputs, dqkv| {
        let delta = samples::normal(ctx, &sizes.statistics(), DType::F32, 4)?;
        launch_as(ctx, case_plan(ctx, sizes, dqkv.dtype()), sizes, inputs, &delta, dqkv)?;
        Ok(vec![dqkv.clone()])
    })
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "p.scale * mat4x4", replace: "mat4x4" },
    Fault { find: "g[2] - d.z", replace: "g[2]" },
    Fault { find: "select(vec4(3.0e38), lse", replace: "select(vec4(0.0), lse" },
    Fault { find: "delta[statistic(head, mine)]", replace: "delta[statistic(head, query)]" },
    Fault { find: "let live = live_keys(head, key)", replace: "let live = live_keys(head, first)" },
    Fault { find: "a = weighed(a, y, x, others)", replace: "a = weighed(b, y, x, others)" },
    Fault { find: "stage_rows(GRAD, grads,", replace: "stage_rows(QKV, queries," },
    Fault { find: "x + 8u, a.high, b.high", replace: "x + 8u, a.high, a.high" },
    Fault { find: "let next = at + p.row", replace: "let next = at + 1u" },
];
