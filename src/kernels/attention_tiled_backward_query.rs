//! Gradient of attention's queries through tiles in workgroup memory, for GPUs.

use super::attention_backward_query::{self, backward_cases, launch_as};
use super::attention_tiled::{PARTS, SIZES, case_plan};
use crate::device::Kernel;
use crate::kernels::{Case, Fault};

/// As [`attention_backward_query::KERNEL`], for heads of up to [`super::attention_tiled::WIDEST`] channels.
pub static KERNEL: Kernel = Kernel {
    name: "attention_tiled_backward_query",
    source: include_str!("../../shaders/attention_tiled_backward_query.wgsl"),
    parts: PARTS,
    bindings: attention_backward_query::BINDINGS,
    epilogues: false,
    twin: attention_backward_query::twin,
};

/// As those of [`super::attention_tiled`].
#[must_use]
pub fn cases() -> Vec<Case> {
    backward_cases(&SIZES, case_plan, false, |ctx, sizes, inputs, dqkv| {
        let delta = launch_as(ctx, case_plan(ctx, sizes, dqkv.dtype()), sizes, inputs, dqkv)?;
        Ok(vec![dqkv.clone(), delta])
    })
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "(g - means) * p.scale", replace: "g * p.scale" },
    Fault { find: "(g - means) * p.scale", replace: "(g - means)" },
    Fault { find: "cell_deltas(grads, query, x + 8u)", replace: "vec4(0.0)" },
    Fault { find: "stage_turned(GRAD, grads,", replace: "stage_turned(QKV, grads," },
    Fault { find: "stage_turned(QKV, values,", replace: "stage_turned(QKV, keys," },
    Fault { find: "live_keys(head, key + 4u * x)", replace: "live_keys(head, key)" },
    Fault { find: "let next = 3u * p.row", replace: "let next = p.row" },
    Fault { find: "select(3u, 1u, buffer == GRAD)", replace: "3u" },
    Fault { find: "select(vec4(0.0), means, vec4(query)", replace: "select(means, means, vec4(query)" },
    Fault { find: "min(ROWS, p.tokens - key)", replace: "min(16u, p.tokens - key)" },
];
