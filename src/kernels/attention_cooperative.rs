//! Softmax attention of halves through the device's cooperative matrices. See [`super::attention_plan`] for when it is taken.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::attention::{self, CaseSize, forward_cases};
use super::attention_plan::{Plan, Sizes};
use super::{attention_cooperative_backward_key, attention_cooperative_backward_query};
use crate::device::{Capabilities, Context, Kernel, Matrix, Part};
use crate::kernels::{Case, Fault};
use crate::shape::DType;

/// As [`attention::KERNEL`], for halves.
pub static KERNEL: Kernel = Kernel {
    name: "attention_cooperative",
    source: include_str!("../../shaders/attention_cooperative.wgsl"),
    parts: &[Part::Matrix, Part::Handed, Part::AttentionParams, Part::AttentionMatrix],
    bindings: attention::BINDINGS,
    epilogues: false,
    twin: attention::twin,
};

/// How the three kernels are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Size of the matrices.
    pub matrix: Matrix,
    /// Invocations of a subgroup.
    pub subgroup: usize,
    /// Own rows of a workgroup: half its invocations.
    pub rows: usize,
}

impl Tile {
    /// Values of a row in workgroup memory, for heads of that width.
    #[must_use]
    pub const fn width(&self, head: usize) -> usize {
        head.next_multiple_of(self.matrix.size())
    }

    /// Invocations of a workgroup.
    #[must_use]
    pub const fn invocations(&self) -> usize {
        2 * self.rows
    }

    /// Workgroup memory, as parts/attention_matrix.wgsl lays it out: rows of both sides and weights in halves, products in f32.
    const fn bytes(&self, head: usize) -> usize {
        let block = 4 * self.matrix.size();
        let (row, weights_row, products_row) = (self.width(head) / 4 + 2, block / 4 + 2, block + 8);
        8 * ((self.rows + block) * row + self.rows * weights_row) + 4 * self.rows * products_row
    }

    const fn fits(&self, has: &Capabilities, head: usize) -> bool {
        self.bytes(head) <= has.workgroup_bytes as usize
            && self.invocations() <= has.workgroup_invocations as usize
            && self.invocations().is_multiple_of(self.subgroup)
            // Units of two strips, at most two for a subgroup.
            && self.rows.is_multiple_of(2 * self.matrix.size())
            && self.subgroup <= 4 * self.matrix.size()
    }
}

/// The tile for heads of a width: of the most rows that the device's workgroup memory holds. None where there are no
/// cooperative matrices, or too little memory.
#[must_use]
pub fn tile(has: &Capabilities, head: usize) -> Option<Tile> {
    let (matrix, subgroup) = has.matrices()?;
    let subgroup = subgroup as usize;
    let tiles = [128, 64, 32, 16].into_iter().map(|rows| Tile { matrix, subgroup, rows });
    tiles.into_iter().find(|tile| tile.fits(has, head))
}

/// Whether attention may take these kernels here. The first call on a device compares all three with their formulas, as for
/// products: [`super::matmul_cooperative::available`].
#[must_use]
pub fn available(ctx: &Context) -> bool {
    tile(ctx.capabilities(), 1).is_some() && ctx.matrix_usable(KERNEL.name, || self_test(ctx))
}

/// More than one workgroup and block, edges and masked keys. A panic of the compiler counts as a failure.
fn self_test(ctx: &Context) -> Result<(), String> {
    let cpu = Context::cpu();
    for cases in [cases, attention_cooperative_backward_query::cases, attention_cooperative_backward_key::cases] {
        for case in cases().iter().take(1) {
            match catch_unwind(AssertUnwindSafe(|| case.compare(ctx, &cpu, DType::F16, 1))) {
                Ok(Ok(wrong)) if wrong.is_empty() => {}
                Ok(Ok(wrong)) => return Err(format!("{}: {}", case.label, wrong.join("; "))),
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => return Err("the shader compiler panicked".into()),
            }
        }
    }
    Ok(())
}

/// Why the cases cannot run on a device, in a storage.
pub(super) fn missing(ctx: &Context, dtype: DType) -> Option<&'static str> {
    if dtype != DType::F16 {
        return Some("it takes halves only");
    }
    let none = !ctx.is_cpu() && tile(ctx.capabilities(), attention::MAX_HEAD).is_none();
    none.then_some("the device offers no cooperative matrices of halves with sums in f32, 8x8x8 or 16x16x16")
}

/// The first is the self-test's.
pub(super) const SIZES: [CaseSize; 7] = [
    (2, 2, 77, 64, 0.6),
    (1, 1, 1, 1, 1.0),
    (2, 3, 7, 6, 1.0),
    (1, 1, 35, 128, 1.0),
    (2, 2, 50, 20, 0.1),
    (2, 1, 5, 4, 0.0),
    (1, 2, 200, 40, 1.0),
];

/// The plan of the cases. The twin takes any tile: the result does not depend on it.
pub(super) fn case_plan(ctx: &Context, sizes: &Sizes, _: DType) -> Plan {
    let any = Tile { matrix: Matrix::M16, subgroup: 32, rows: 32 };
    Plan::Cooperative(tile(ctx.capabilities(), sizes.width).unwrap_or(any))
}

/// Sizes in which each subgroup has two units of work, as where subgroups are wide for their matrices: the launch is told so.
pub(super) const WIDE: [CaseSize; 2] = [(1, 2, 77, 64, 0.6), (1, 1, 50, 100, 1.0)];

/// The plan of those cases.
pub(super) fn wide_plan(ctx: &Context, sizes: &Sizes, dtype: DType) -> Plan {
    match case_plan(ctx, sizes, dtype) {
        Plan::Cooperative(tile) => Plan::Cooperative(Tile { subgroup: 4 * tile.matrix.size(), ..tile }),
        plan => plan,
    }
}

/// Lengths around workgroups and blocks, masks, rows without any key, several slices.
#[must_use]
pub fn cases() -> Vec<Case> {
    let mut cases = forward_cases(&SIZES, case_plan, true);
    cases.extend(forward_cases(&WIDE, wide_plan, true));
    cases
}

/// Wrong texts. The first must not pass the self-test (`tests/cooperative.rs`).
pub const FAULTS: &[Fault] = &[
    Fault { find: "l = l * f +", replace: "l = l +" },
    Fault { find: "sum.a = sum.a * f +", replace: "sum.a = sum.a +" },
    Fault { find: "head, key + 16u)", replace: "head, key + 8u)" },
    Fault { find: "stage(to + 6u,", replace: "stage(to + 4u," },
    Fault { find: "max(mine, subgroupShuffleXor(mine, 1u))", replace: "mine" },
    Fault { find: "l += subgroupShuffleXor(l, 1u);", replace: "" },
    Fault { find: "store(to, slice, odd, ", replace: "store(to, slice, 0u, " },
    Fault { find: "mask[head / p.heads", replace: "mask[head" },
    Fault { find: "let others = min(BLOCK, p.tokens - key);", replace: "let others = min(MATRIX, p.tokens - key);" },
    Fault { find: "let own = min(ROWS,", replace: "let own = min(MATRIX," },
    Fault { find: "m + log(l)", replace: "log(l)" },
    Fault { find: "select(0.0, 1.0 / l, l > 0.0)", replace: "1.0 / l" },
    Fault { find: "% p.slices * MATRIX", replace: "% p.slices" },
    Fault { find: "max(m, FLOOR)", replace: "m" },
    Fault { find: "key + 4u <= p.tokens", replace: "true" },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tiles_are_the_largest_that_fit() {
        let device = |matrix, subgroup_size, workgroup_bytes| {
            let host = Context::cpu().capabilities().clone();
            Capabilities { matrix: Some(matrix), subgroup_size: Some(subgroup_size), workgroup_bytes, ..host }
        };
        let (h200, apple) = (device(Matrix::M16, 32, 48 << 10), device(Matrix::M8, 32, 32 << 10));
        let (lavapipe, small) = (device(Matrix::M8, 8, 32 << 10), device(Matrix::M16, 32, 16 << 10));
        // Rows of a workgroup for heads of a width, and bytes. By hand, the first: 8 (64 + 64) 18 for rows of both sides, 8 64 18
        // for weights, 4 64 72 for products.
        let table = [
            (&h200, 64, Some((64, 46_080))),
            (&h200, 128, Some((32, 39_936))),
            (&h200, 32, Some((64, 37_888))),
            (&apple, 64, Some((64, 29_184))),
            (&apple, 128, Some((32, 25_088))),
            (&lavapipe, 16, Some((64, 19_968))),
            (&small, 64, None),
        ];
        let mut wrong = Vec::new();
        for (has, head, want) in table {
            let got = tile(has, head).map(|tile| (tile.rows, tile.bytes(head)));
            if got != want {
                wrong.push((has.matrix, head, got, want));
            }
        }
        assert!(wrong.is_empty(), "(matrices, head, got, want): {wrong:?}");
    }
}
