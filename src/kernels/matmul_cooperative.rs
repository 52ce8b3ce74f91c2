//! C = op(A) op(B) in halves through the device's cooperative matrices. See [`super::matmul_plan`] for when it is taken.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::matmul::{self, Batched, Matmul};
use super::{matmul_cases, matmul_twin};
use crate::device::{Capabilities, Context, Epilogue, EpilogueKind, Kernel, Launch, Matrix, Part};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `C[b] = op(A[b]) op(B[b])`, then an epilogue; A, B and the epilogue's buffers F16.
pub static KERNEL: Kernel = Kernel {
    name: "matmul_cooperative",
    source: include_str!("../../shaders/matmul_cooperative.wgsl"),
    parts: &[Part::ProductParams, Part::Patches, Part::Blocks, Part::Gelu, Part::RowSums, Part::Matrix, Part::Handed],
    bindings: matmul::BINDINGS,
    epilogues: true,
    twin: matmul_twin::twin,
};

/// How much of C a workgroup owns: subgroups along the rows and the columns, 4 x 2 matrices each, and the steps along K that
/// lie in workgroup memory at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Size of the matrices.
    pub matrix: Matrix,
    /// Invocations of a subgroup.
    pub subgroup: usize,
    /// Subgroups along the rows.
    pub row_groups: usize,
    /// Subgroups along the columns.
    pub column_groups: usize,
    /// Steps along K, a multiple of the matrices' size.
    pub depth: usize,
    /// Turns in which subgroups hand over their results, for want of workgroup memory: 1, 2 or 4.
    pub turns: usize,
}

impl Tile {
    /// Rows of C in one workgroup.
    #[must_use]
    pub const fn rows(&self) -> usize {
        4 * self.matrix.size() * self.row_groups
    }

    /// Columns of C in one workgroup.
    #[must_use]
    pub const fn columns(&self) -> usize {
        2 * self.matrix.size() * self.column_groups
    }

    /// Invocations of a workgroup.
    #[must_use]
    pub const fn invocations(&self) -> usize {
        self.subgroup * self.row_groups * self.column_groups
    }

    /// Blocks of 4 x 4 in which so many lines are copied.
    const fn blocks(&self, lines: usize) -> usize {
        lines * self.depth / 16
    }

    /// Workgroup memory: two padded tiles of halves, and in f32 two padded matrices for each subgroup of a turn or a cell for each block of A.
    fn bytes(&self) -> usize {
        let pair = self.matrix.size() * (2 * self.matrix.size() + 8);
        let results = (self.row_groups * self.column_groups / self.turns * pair).max(4 * self.blocks(self.rows()));
        8 * (self.rows() + self.columns()) * (self.depth / 4 + 2) + 4 * results
    }

    /// Whether a device offers that much, and each invocation has at most two blocks of an operand to copy.
    fn fits(&self, has: &Capabilities) -> bool {
        self.bytes() <= has.workgroup_bytes as usize
            && self.invocations() <= 512.min(has.workgroup_invocations as usize)
            && (self.row_groups * self.column_groups).is_multiple_of(self.turns)
            && self.blocks(self.rows().max(self.columns())) <= 2 * self.invocations()
            && self.rows() / 4 <= self.invocations()
            && self.depth.is_multiple_of(self.matrix.size())
            // A lane stores cells below each other.
            && self.subgroup.is_multiple_of(self.matrix.size() / 2)
    }
}

/// The tiles that a device can run, largest first; none where it has no cooperative matrices.
#[must_use]
pub fn tiles(has: &Capabilities) -> Vec<Tile> {
    let Some((matrix, subgroup)) = has.matrices() else { return Vec::new() };
    let subgroup = subgroup as usize;
    let deepest = |(row_groups, column_groups)| {
        let cuts = [(32, 1), (32, 2), (32, 4), (16, 1), (16, 2), (16, 4)].into_iter();
        let tile = |(depth, turns)| Tile { matrix, subgroup, row_groups, column_groups, depth, turns };
        cuts.map(tile).find(|tile| tile.fits(has))
    };
    [(4, 4), (2, 4), (1, 2)].into_iter().filter_map(deepest).collect()
}

/// Whether products may take this kernel here. The first call on a device compares a few of them with the formula: drivers
/// list sizes that they compute wrongly, and wgpu's support is experimental. What it found stays with the context,
/// [`Context::matrix_verdict`].
#[must_use]
pub fn available(ctx: &Context) -> bool {
    !tiles(ctx.capabilities()).is_empty() && ctx.matrix_usable(KERNEL.name, || self_test(ctx))
}

/// Products that need several tiles of each size and have edges everywhere; two forms cover all four ways of loading a matrix, an
/// activation and the gradient of a weight with that of its bias.
/// A panic of the compiler counts as a failure.
fn self_test(ctx: &Context) -> Result<(), String> {
    let compare = |tile: Tile, trans: bool| -> Result<Option<String>> {
        let form = Matmul { trans_a: trans, trans_b: trans };
        let size = (tile.rows() + 3, tile.columns() + 5, 2 * tile.depth + 9);
        let run = move |ctx: &Context| {
            let run = move |ctx: &Context, m: &Batched, a: &Tensor, b: &Tensor, c: &Tensor, epilogue: Epilogue<'_>| {
                launch(ctx, &tile, m, [a, b, c], epilogue)
            };
            let (epilogue, output) =
                if trans { (EpilogueKind::RowSums, DType::F32) } else { (EpilogueKind::BiasGelu, DType::F16) };
            let out = matmul_cases::product(ctx, form, size, (epilogue, false), [DType::F16, output], &run)?;
            out.iter().map(|c| c.to_f32_padded()).collect::<Result<Vec<_>>>()
        };
        let (got, want) = (run(ctx)?.concat(), run(&Context::cpu())?.concat());
        let tolerance = Tolerance::sum(size.2).with_half();
        let wrong = got.iter().zip(&want).position(|(&x, &y)| !tolerance.accepts(x, y));
        Ok(wrong.map(|i| format!("{size:?} {form:?}: value {i} is {:e}, should be {:e}", got[i], want[i])))
    };
    for tile in tiles(ctx.capabilities()) {
        for trans in [false, true] {
            match catch_unwind(AssertUnwindSafe(|| compare(tile, trans))) {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(wrong))) => return Err(wrong),
                Ok(Err(error)) => return Err(error.to_string()),
                Err(_) => return Err("the shader compiler panicked".into()),
            }
        }
    }
    Ok(())
}

/// Writes a batch of products into `c`; its sizes have been checked.
///
/// # Errors
/// `Error::Shape` when the operands are not halves.
pub(super) fn launch(
    ctx: &Context,
    tile: &Tile,
    m: &Batched,
    [a, b, c]: [&Tensor; 3],
    epilogue: Epilogue<'_>,
) -> Result<()> {
    if a.dtype() != DType::F16 {
        return Err(Error::shape("matmul_cooperative", "operands in F16", a.dtype()));
    }
    let tiles = (m.rows.div_ceil(tile.rows()), m.width.div_ceil(tile.columns()));
    m.constants(Launch::new(&KERNEL).tensors(&[a, b, c]).epilogue(epilogue))
        .constant("ROW_GROUPS", tile.row_groups as f64)
        .constant("COLUMN_GROUPS", tile.column_groups as f64)
        .constant("DEPTH", tile.depth as f64)
        .constant("TURNS", tile.turns as f64)
        .constant("SUBGROUP", tile.subgroup as f64)
        .params(&m.params(tiles))
        .groups(tiles.0 * tiles.1 * m.batches)
        .flops(m.flops())
        .run(ctx)
}

/// Why the cases cannot run on a device, in a storage.
pub(super) fn missing(ctx: &Context, dtype: DType) -> Option<&'static str> {
    if dtype != DType::F16 {
        return Some("it takes halves only");
    }
    let none = !ctx.is_cpu() && tiles(ctx.capabilities()).is_empty();
    none.then_some("the device offers no cooperative matrices of halves with sums in f32, 8x8x8 or 16x16x16")
}

/// Sizes around the device's largest tile, the same shorter in its second, batches in its smallest, and patches in that with results
/// handed over in turns.
#[must_use]
pub fn cases() -> Vec<Case> {
    // The twin takes any tile: the result does not depend on it.
    let any = Tile { matrix: Matrix::M16, subgroup: 32, row_groups: 1, column_groups: 2, depth: 32, turns: 1 };
    let run = |pick: fn(&[Tile]) -> Option<Tile>| {
        move |ctx: &Context, m: &Batched, a: &Tensor, b: &Tensor, c: &Tensor, epilogue: Epilogue<'_>| {
            launch(ctx, &pick(&tiles(ctx.capabilities())).unwrap_or(any), m, [a, b, c], epilogue)
        }
    };
    let first = run(|tiles| tiles.first().copied());
    let mut cases = matmul_cases::forms("largest tile", false, &[(130, 133, 73), (64, 64, 32), (3, 9, 5)], first);
    let second = run(|tiles| tiles.get(1).or(tiles.last()).copied());
    cases.extend(matmul_cases::forms("second tile", false, &[(66, 69, 41)], second));
    cases.extend(matmul_cases::batches(run(|tiles| tiles.last().copied())));
    cases.extend(matmul_cases::patches(run(|tiles| tiles.last().map(|tile| Tile { turns: 2, ..*tile }))));
    cases
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "if (live.x) { put(at, 0u, x); } else", replace: "if (true) { put(at, 0u, x); } else" },
    Fault { find: "if (k + DEPTH <= p.inner) { if (TRANS_A)", replace: "if (true) { if (TRANS_A)" },
    Fault { find: "c31 = coopMultiplyAdd(n3, m1, c31)", replace: "c31 = coopMultiplyAdd(n3, m0, c31)" },
    Fault { find: "coopLoad<MatrixB>", replace: "coopLoadT<MatrixB>" },
    Fault { find: "put(at, FIRST_B, transpose(x))", replace: "put(at, FIRST_B, x)" },
    Fault { find: "a1 = load_a(p1, f1, row, base.x, k + DEPTH)", replace: "a1 = load_a(p1, f1, row, base.x, k)" },
    Fault { find: "live.w * vec4<f32>(x[3])", replace: "vec4<f32>(x[3])" },
    Fault { find: "i < DEPTH / 4u; i += 1u", replace: "i < DEPTH / 8u; i += 1u" },
    Fault { find: "batch * ((p.rows + 3u) / 4u) + cell", replace: "cell" },
    Fault { find: "begin, k + 4u * at.y, p.a_row", replace: "begin, k, p.a_row" },
    Fault { find: "begin, k + 4u * at.y, p.b_row", replace: "begin, k, p.b_row" },
    Fault { find: "if (PATCHES == OF_A)", replace: "if (false)" },
    Fault { find: "if (PATCHES == OF_B)", replace: "if (false)" },
    Fault { find: "cell + line.y * PAIR_ROW", replace: "cell + line.y * (MATRIX / 2u)" },
    Fault { find: "keep(to.y, x1)", replace: "keep(to.y, x0)" },
    Fault { find: "batch * p.bias_batch + bias_place(near)", replace: "bias_place(near)" },
    Fault { find: "bias_place(near)", replace: "near" },
    Fault { find: "place(PATCHES == OF_C,", replace: "place(false," },
    Fault { find: "patch_cells(!TRANS_A,", replace: "patch_cells(TRANS_A," },
    Fault { find: "patch_cells(TRANS_B,", replace: "patch_cells(!TRANS_B," },
    Fault { find: "vec4(4u * x) + FOUR < vec4(p.width)", replace: "vec4(4u * x) + FOUR <= vec4(p.width)" },
    Fault { find: "n += 2u * ROWS_APART", replace: "n += 4u * ROWS_APART" },
    Fault { find: "BLOCKS_B > WORKGROUP", replace: "false" },
    Fault { find: "at.x - own + turn", replace: "at.x" },
    Fault { find: "(own + 1u) * SHARE", replace: "SHARE" },
];
