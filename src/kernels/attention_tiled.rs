//! Softmax attention through tiles in workgroup memory, for GPUs. See [`super::attention_plan`] for when it is taken.

use super::attention::{self, CaseSize, forward_cases};
use super::attention_plan::{Plan, Sizes};
use crate::device::{Capabilities, Context, Kernel, Part};
use crate::kernels::{Case, Fault};
use crate::shape::DType;

/// As [`attention::KERNEL`], for heads of up to [`WIDEST`] channels.
pub static KERNEL: Kernel = Kernel {
    name: "attention_tiled",
    source: include_str!("../../shaders/attention_tiled.wgsl"),
    parts: PARTS,
    bindings: attention::BINDINGS,
    epilogues: false,
    twin: attention::twin,
};

/// Of all three kernels.
pub(super) const PARTS: &[Part] = &[Part::AttentionParams, Part::AttentionTile];

/// Widest head: two cells of a row for each of eight invocations.
pub const WIDEST: usize = 64;

/// Own rows of a workgroup, as in the text.
pub(super) const ROWS: usize = 32;

/// Channels of a head in workgroup memory: 32 or 64.
#[must_use]
pub const fn width(head: usize) -> usize {
    head.next_multiple_of(32)
}

/// Workgroup memory of the largest of the three kernels, in bytes: three tiles of rows, weights, a cell of each invocation.
const fn bytes(head: usize) -> usize {
    4 * (3 * ROWS * width(head) + ROWS * ROWS) + 16 * 64
}

/// Whether a device can run the three kernels for heads of a width.
#[must_use]
pub const fn fits(has: &Capabilities, head: usize) -> bool {
    head <= WIDEST && bytes(head) <= has.workgroup_bytes as usize
}

/// Why the cases cannot run on a device.
pub(super) fn missing(ctx: &Context, _: DType) -> Option<&'static str> {
    let none = !ctx.is_cpu() && !fits(ctx.capabilities(), WIDEST);
    none.then_some("the device has less than 29 KiB of workgroup memory")
}

/// More than one workgroup and block, edges, masked keys, no keys at all, both widths.
pub(super) const SIZES: [CaseSize; 9] = [
    (2, 2, 77, 64, 0.6),
    (1, 1, 1, 1, 1.0),
    (2, 3, 7, 6, 1.0),
    (1, 1, 33, 33, 1.0),
    (3, 2, 21, 8, 0.5),
    (1, 1, 64, 32, 1.0),
    (2, 2, 50, 20, 0.1),
    (2, 1, 5, 4, 0.0),
    (1, 2, 100, 44, 1.0),
];

/// The plan of the cases.
pub(super) fn case_plan(_: &Context, _: &Sizes, _: DType) -> Plan {
    Plan::Tiled
}

/// As [`attention::cases`].
#[must_use]
pub fn cases() -> Vec<Case> {
    forward_cases(&SIZES, case_plan, false)
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "l = l * f +", replace: "l = l +" },
    Fault { find: "sum = Two(scaled(sum.low, f), scaled(sum.high, f));", replace: "" },
    Fault { find: "vec4(FLOOR)), shared_max(y))", replace: "vec4(FLOOR)), shared_by(y, x))" },
    Fault { find: "l = shared_sum(y);", replace: "" },
    Fault { find: "head, key + 4u * x)", replace: "head, key)" },
    Fault { find: "store(head, query, x + 8u,", replace: "store(head, query, x + 7u," },
    Fault { find: "min(ROWS, p.tokens - key)", replace: "min(16u, p.tokens - key)" },
    Fault { find: "m + log(l)", replace: "log(l)" },
    Fault { find: "1.0 / l, l > vec4(0.0)", replace: "1.0 / l, l > vec4(-1.0)" },
    Fault { find: "max(m, vec4(FLOOR))", replace: "m" },
    Fault { find: "stage_rows(QKV, values,", replace: "stage_rows(QKV, keys," },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_and_devices_that_fit() {
        let with = |workgroup_bytes| Capabilities { workgroup_bytes, ..Context::cpu().capabilities().clone() };
        // By hand for 64 channels: three tiles of 8 KiB, 4 KiB of weights, 1 KiB shared.
        let table = [(29 << 10, 64, true), ((29 << 10) - 1, 64, false), (32 << 10, 65, false), (17 << 10, 32, true)];
        for (bytes, head, want) in table {
            assert_eq!(fits(&with(bytes), head), want, "{bytes} bytes, {head} channels");
        }
    }
}
