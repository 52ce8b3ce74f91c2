//! C = op(A) op(B) for GPUs: tiles in workgroup memory. See [`super::matmul_plan`] for when it is taken.

use super::matmul::{self, Batched};
use super::{matmul_cases, matmul_twin};
use crate::device::{Context, Epilogue, Kernel, Launch, Part};
use crate::error::Result;
use crate::kernels::{Case, Fault};
use crate::tensor::Tensor;

/// `C[b] = op(A[b]) op(B[b])`, then an epilogue.
pub static KERNEL: Kernel = Kernel {
    name: "matmul_tiled",
    source: include_str!("../../shaders/matmul_tiled.wgsl"),
    parts: &[Part::ProductParams, Part::Patches, Part::Blocks, Part::Grid, Part::Gelu, Part::RowSums],
    bindings: matmul::BINDINGS,
    epilogues: true,
    twin: matmul_twin::twin,
};

/// How much of C a workgroup owns: invocations along the rows and the columns, 8 x 8 values each, and the steps along K
/// that lie in workgroup memory at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Invocations along the rows, a multiple of 8.
    pub row_lanes: usize,
    /// Invocations along the columns, a multiple of 8.
    pub column_lanes: usize,
    /// Steps along K, 8 or 16: what the invocations load with a block of 4 x 4 each, or with one of each operand.
    pub depth: usize,
}

/// 128 x 128 values of C, 16 KiB of workgroup memory: what every device offers.
pub const LARGE: Tile = Tile { row_lanes: 16, column_lanes: 16, depth: 16 };

/// 64 x 64 values, for products too small to fill a GPU with large tiles; 8 KiB.
pub const SMALL: Tile = Tile { row_lanes: 8, column_lanes: 8, depth: 16 };

impl Tile {
    /// Rows of C in one workgroup.
    #[must_use]
    pub const fn rows(&self) -> usize {
        8 * self.row_lanes
    }

    /// Columns of C in one workgroup.
    #[must_use]
    pub const fn columns(&self) -> usize {
        8 * self.column_lanes
    }

    /// Invocations of a workgroup.
    #[must_use]
    pub const fn invocations(&self) -> usize {
        self.row_lanes * self.column_lanes
    }
}

/// Writes a batch of products into `c`; its sizes have been checked.
pub(super) fn launch(
    ctx: &Context,
    tile: &Tile,
    m: &Batched,
    [a, b, c]: [&Tensor; 3],
    epilogue: Epilogue<'_>,
) -> Result<()> {
    let tiles = (m.rows.div_ceil(tile.rows()), m.width.div_ceil(tile.columns()));
    m.constants(Launch::new(&KERNEL).tensors(&[a, b, c]).epilogue(epilogue))
        .constant("ROW_LANES", tile.row_lanes as f64)
        .constant("COLUMN_LANES", tile.column_lanes as f64)
        .constant("DEPTH", tile.depth as f64)
        .constant("WORKGROUP", tile.invocations() as f64)
        .params(&m.params(tiles))
        .groups(tiles.0 * tiles.1 * m.batches)
        .flops(m.flops())
        .run(ctx)
}

/// Sizes around both tiles, and the general ones.
#[must_use]
pub fn cases() -> Vec<Case> {
    let sets: [(&str, Tile, &[matmul_cases::Size]); 2] = [
        ("64x64", SMALL, &[(1, 1, 1), (65, 130, 9), (64, 64, 16), (7, 70, 33)]),
        ("128x128", LARGE, &[(130, 259, 18), (1, 5, 35)]),
    ];
    let mut cases = Vec::new();
    for (name, tile, sizes) in sets {
        cases.extend(matmul_cases::forms(name, false, sizes, move |ctx, m, a, b, c, epilogue| {
            launch(ctx, &tile, m, [a, b, c], epilogue)
        }));
    }
    let small = |ctx: &Context, m: &Batched, a: &Tensor, b: &Tensor, c: &Tensor, epilogue: Epilogue<'_>| {
        launch(ctx, &SMALL, m, [a, b, c], epilogue)
    };
    cases.extend(matmul_cases::batches(small));
    cases.extend(matmul_cases::patches(small));
    cases
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "if (along_k) { return transpose(x); }", replace: "" },
    Fault { find: "vec4(k) + FOUR < vec4(p.inner)", replace: "vec4(k) + FOUR <= vec4(p.inner)" },
    Fault { find: "if (!TRANS_A) { return s; }", replace: "return s;" },
    Fault { find: "vec4(4u * cell) + FOUR < vec4(p.width)", replace: "vec4(4u * cell) + FOUR <= vec4(p.width)" },
    Fault { find: "sum[3] + x.w * y", replace: "sum[3] + x.z * y" },
    Fault { find: "let v = permuted(y, g)", replace: "let v = y % 8u" },
    Fault { find: "lane / 8u * (DEPTH / 4u)", replace: "lane / 8u * 2u" },
    Fault { find: "let h = at.x / lanes", replace: "let h = at.x % 2u" },
    Fault { find: "p.inner + DEPTH - k) + 3u)", replace: "p.inner + DEPTH - k))" },
    Fault { find: "(min(DEPTH, p.inner + DEPTH - k) + 3u) / 4u", replace: "DEPTH / 4u" },
    Fault { find: "sums += s[0]", replace: "sums = s[0]" },
    Fault { find: "i < BLOCKS_A; i +=", replace: "i < 2u * ROW_LANES; i +=" },
    Fault { find: "batch * ((p.rows + 3u) / 4u) + cell", replace: "cell" },
    Fault { find: "if (BOTH) { second = load_b(at_b, begin_b, column, base.y, k); }", replace: "" },
    Fault { find: "begin, k + 4u * at.y, p.a_row", replace: "begin, k, p.a_row" },
    Fault { find: "begin, k + 4u * at.y, p.b_row", replace: "begin, k, p.b_row" },
    Fault { find: "if (PATCHES == OF_A)", replace: "if (false)" },
    Fault { find: "if (PATCHES == OF_B)", replace: "if (false)" },
    Fault { find: "patch_cells(!TRANS_A,", replace: "patch_cells(TRANS_A," },
    Fault { find: "patch_cells(TRANS_B,", replace: "patch_cells(!TRANS_B," },
    Fault { find: "batch * vec2(p.a_batch, p.b_batch)", replace: "batch * vec2(p.a_batch, p.a_batch)" },
    Fault { find: "batch * p.bias_batch + bias_place(cell)", replace: "bias_place(cell)" },
    Fault { find: "batch * p.bias_batch + bias_place(cell)", replace: "batch * p.bias_batch + cell" },
    Fault { find: "keep(at.z, x2)", replace: "keep(at.z, x1)" },
    Fault { find: "place(PATCHES == OF_C,", replace: "place(false," },
    Fault { find: "store(batch, y1, x0, c10)", replace: "store(batch, y0, x0, c10)" },
];
