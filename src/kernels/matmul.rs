//! C = op(A) op(B) with a fused epilogue, single or batched.

use bytemuck::{Pod, Zeroable};

use crate::device::{Binding, Context, Epilogue, EpilogueKind, Kernel, Launch, Part, View};
use crate::error::{Error, Result};
use crate::kernels::matmul_images::{Images, Operand};
use crate::kernels::matmul_plan::{Plan, Variant};
use crate::kernels::{Case, Fault, matmul_cases, matmul_cooperative, matmul_sum, matmul_tiled, matmul_twin};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `C[b] = op(A[b]) op(B[b])`, then an epilogue.
pub static KERNEL: Kernel = Kernel {
    name: "matmul",
    source: include_str!("../../shaders/matmul.wgsl"),
    parts: &[Part::ProductParams, Part::Grid, Part::Loads, Part::Tile, Part::Gelu, Part::RowSums],
    bindings: BINDINGS,
    epilogues: true,
    twin: matmul_twin::twin,
};

/// What every variant of the product binds.
pub(super) const BINDINGS: &[Binding] = &[Binding::stored("a"), Binding::stored("b"), Binding::output_mut("c")];

/// The parameters of every variant; `row_tiles` and `column_tiles` count its own tiles.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(super) struct Params {
    pub rows: u32,
    pub width: u32,
    pub inner: u32,
    row_tiles: u32,
    column_tiles: u32,
    pub batches: u32,
    pub a_row: u32,
    pub a_batch: u32,
    pub b_row: u32,
    pub b_batch: u32,
    pub c_row: u32,
    pub c_batch: u32,
    pub bias_batch: u32,
}

/// Which operands are stored transposed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Matmul {
    /// A holds (K, M) instead of (M, K).
    pub trans_a: bool,
    /// B holds (N, K) instead of (K, N).
    pub trans_b: bool,
}

/// A batch of products inside given memory. Rows and batches are counted in cells of four values; a batch stride of 0
/// uses one operand for every batch.
#[derive(Clone, Copy, Debug, Default)]
pub struct Batched {
    /// Which operands are stored transposed.
    pub form: Matmul,
    /// Number of products.
    pub batches: usize,
    /// M, rows of C.
    pub rows: usize,
    /// N, columns of C.
    pub width: usize,
    /// K, length of the sums.
    pub inner: usize,
    /// Cells from one row of A's memory to the next.
    pub a_row: usize,
    /// Cells from one A to the next.
    pub a_batch: usize,
    /// Cells from one row of B's memory to the next.
    pub b_row: usize,
    /// Cells from one B to the next.
    pub b_batch: usize,
    /// Cells from one row of C to the next.
    pub c_row: usize,
    /// Cells from one C to the next.
    pub c_batch: usize,
    /// Cells from one bias to the next.
    pub bias_batch: usize,
    /// Whether a matrix lies in images: of a single product only.
    pub images: Option<Images>,
}

impl Batched {
    /// One product of tensors without gaps; (M, N, K). The memory of C may have another shape: only its size counts.
    pub(super) fn single(form: Matmul, (rows, width, inner): (usize, usize, usize), [a, b]: [&Tensor; 2]) -> Self {
        Self {
            form,
            batches: 1,
            rows,
            width,
            inner,
            a_row: a.shape().cells(),
            b_row: b.shape().cells(),
            c_row: width.div_ceil(4),
            ..Self::default()
        }
    }

    /// The parameters for a grid of (row, column) tiles.
    pub(super) const fn params(&self, tiles: (usize, usize)) -> Params {
        Params {
            rows: self.rows as u32,
            width: self.width as u32,
            inner: self.inner as u32,
            row_tiles: tiles.0 as u32,
            column_tiles: tiles.1 as u32,
            batches: self.batches as u32,
            a_row: self.a_row as u32,
            a_batch: self.a_batch as u32,
            b_row: self.b_row as u32,
            b_batch: self.b_batch as u32,
            c_row: self.c_row as u32,
            c_batch: self.c_batch as u32,
            bias_batch: self.bias_batch as u32,
        }
    }

    /// Adds the overrides that say what lies in images.
    pub(super) fn constants<'a>(&self, launch: Launch<'a>) -> Launch<'a> {
        let launch =
            launch.constant("TRANS_A", f64::from(self.form.trans_a)).constant("TRANS_B", f64::from(self.form.trans_b));
        let Some(images) = self.images else { return launch };
        launch
            .constant("PATCHES", f64::from(images.of as u8))
            .constant("CHANNELS", images.channels as f64)
            .constant("SIDE", images.side as f64)
            .constant("ACROSS", images.across as f64)
    }

    /// Multiplications and additions of all products.
    pub(super) const fn flops(&self) -> f64 {
        2.0 * self.batches as f64 * self.rows as f64 * self.width as f64 * self.inner as f64
    }

    /// The partial products of one product whose K is cut into equal parts of whole cells, as a batch without gaps.
    const fn parts(&self, splits: usize) -> Self {
        let inner = self.inner / splits;
        let cells = self.width.div_ceil(4);
        Self {
            batches: splits,
            inner,
            a_batch: if self.form.trans_a { inner * self.a_row } else { inner / 4 },
            // Of images, rows are counted.
            b_batch: match (self.form.trans_b, self.images) {
                (true, _) => inner / 4,
                (false, None) => inner * self.b_row,
                (false, Some(_)) => inner,
            },
            c_row: cells,
            c_batch: self.rows * cells,
            bias_batch: 0,
            ..*self
        }
    }
}

/// How a product is cut: blocks of four rows and cells of four columns per invocation, invocations per workgroup, and the
/// numbers of workgroups along the rows and the columns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tiles {
    pub(super) blocks: usize,
    pub(super) cells: usize,
    pub(super) workgroup: usize,
    pub(super) rows: usize,
    pub(super) columns: usize,
}

impl Tiles {
    /// A cut of `rows` x `cells` cells. Processors that play GPU run eight invocations as one vector and like the largest
    /// tile, but compile it slowly: small products share one half as wide. GPUs run out of registers there, and want many
    /// workgroups.
    pub fn new(ctx: &Context, rows: usize, cells: usize) -> Self {
        let cut = |blocks, width, workgroup| Self::cut(rows, cells, blocks, width, workgroup);
        if ctx.capabilities().software {
            return cut(8, if rows * cells >= 1 << 16 { 2 } else { 1 }, 8);
        }
        let wide = cut(rows.div_ceil(4).min(2), 2, 32);
        let half_empty = cells <= wide.cells / 2 * wide.workgroup;
        if half_empty || wide.rows * wide.columns < 512 { cut(wide.blocks, 1, 32) } else { wide }
    }

    /// `rows` x `cells` cells by so many blocks, cells and invocations.
    pub(super) fn cut(rows: usize, cells: usize, blocks: usize, width: usize, workgroup: usize) -> Self {
        let (rows, columns) = (rows.div_ceil(4 * blocks), cells.div_ceil(width * workgroup));
        Self { blocks, cells: width, workgroup, rows, columns }
    }

    /// At most 16 rows on a GPU, all in one invocation for each cell of columns: B, by far the longer operand, is read once.
    pub(super) fn few_rows(rows: usize, cells: usize) -> Self {
        let blocks = rows.div_ceil(4).clamp(1, 4).next_power_of_two();
        Self::cut(rows, cells, blocks, 1, 32)
    }

    /// Adds the overrides that all kernels cut this way share.
    pub fn constants<'a>(&self, launch: Launch<'a>) -> Launch<'a> {
        launch
            .constant("BLOCKS", self.blocks as f64)
            .constant("CELLS", self.cells as f64)
            .constant("WORKGROUP", self.workgroup as f64)
    }
}

/// C (M, N) of type `out` from two matrices; leading axes count as rows. The bias has N values, the residual and the
/// pre-activation the shape of C.
///
/// # Errors
/// `Error::Shape` when the inner lengths differ or a buffer of the epilogue has another size.
pub fn launch(
    ctx: &Context,
    form: &Matmul,
    a: &Tensor,
    b: &Tensor,
    out: DType,
    epilogue: Epilogue<'_>,
) -> Result<Tensor> {
    let (rows, width) = sides(form, a, b)?.0;
    let c = Tensor::empty(ctx, &[rows, width], out)?;
    launch_into(ctx, form, a, b, &c, epilogue)?;
    Ok(c)
}

/// [`launch`] into given memory of M N values.
///
/// # Errors
/// As [`launch`]; `Error::Shape` when `c` is too small.
pub fn launch_into(
    ctx: &Context,
    form: &Matmul,
    a: &Tensor,
    b: &Tensor,
    c: &Tensor,
    epilogue: Epilogue<'_>,
) -> Result<()> {
    let ((rows, width), inner) = sides(form, a, b)?;
    // The memory may have another shape: only its size counts.
    launch_batched(ctx, &Batched::single(*form, (rows, width, inner), [a, b]), a, b, c, epilogue)
}

/// (M, N) and K of a product.
fn sides(form: &Matmul, a: &Tensor, b: &Tensor) -> Result<((usize, usize), usize)> {
    let sides = |t: &Tensor, swap: bool| {
        if swap { (t.shape().last(), t.shape().rows()) } else { (t.shape().rows(), t.shape().last()) }
    };
    let ((rows, inner), (inner_b, width)) = (sides(a, form.trans_a), sides(b, form.trans_b));
    if inner != inner_b {
        return Err(Error::shape("matmul", format!("inner lengths alike, A {} {form:?}", a.shape()), b.shape()));
    }
    Ok(((rows, width), inner))
}

/// Writes a batch of products into `c`.
///
/// # Errors
/// `Error::Shape` when the products reach past the end of a buffer.
pub fn launch_batched(
    ctx: &Context,
    m: &Batched,
    a: &Tensor,
    b: &Tensor,
    c: &Tensor,
    epilogue: Epilogue<'_>,
) -> Result<()> {
    check(m, [a, b, c], epilogue)?;
    execute(ctx, &Plan::new(ctx, m, a.dtype()), m, [a, b, c], epilogue)
}

/// A batch of products as planned: in one launch, or in parts of K and their sum.
pub(super) fn execute(
    ctx: &Context,
    plan: &Plan,
    m: &Batched,
    [a, b, c]: [&Tensor; 3],
    epilogue: Epilogue<'_>,
) -> Result<()> {
    if plan.splits == 1 {
        return run(ctx, plan.variant, m, [a, b, c], epilogue);
    }
    let partial = matmul_sum::Partial { splits: plan.splits, rows: m.rows, width: m.width };
    let x = partial.empty(ctx, epilogue.kind())?;
    let sums = if epilogue.kind() == EpilogueKind::RowSums { Some(partial.sums(&x)?) } else { None };
    let first = sums.as_ref().map_or(Epilogue::None, |sums| Epilogue::RowSums { sums, added: false });
    run(ctx, plan.variant, &m.parts(plan.splits), [a, b, &partial.products(&x)?], first)?;
    matmul_sum::launch(ctx, &partial, &x, c, m.c_row, epilogue)
}

fn run(ctx: &Context, variant: Variant, m: &Batched, tensors: [&Tensor; 3], epilogue: Epilogue<'_>) -> Result<()> {
    let tiles = match variant {
        Variant::Registers(tiles) => tiles,
        Variant::Tiled(tile) => return matmul_tiled::launch(ctx, &tile, m, tensors, epilogue),
        Variant::Cooperative(tile) => return matmul_cooperative::launch(ctx, &tile, m, tensors, epilogue),
    };
    if m.images.is_some() {
        return Err(Error::shape("matmul", "matrices without images, in registers", format!("{:?}", m.images)));
    }
    m.constants(tiles.constants(Launch::new(&KERNEL).tensors(&tensors.map(|t| &**t)).epilogue(epilogue)))
        .params(&m.params((tiles.rows, tiles.columns)))
        .groups(tiles.rows * tiles.columns * m.batches)
        .flops(m.flops())
        .run(ctx)
}

/// Whether every row that the products touch lies inside its buffer.
pub(super) fn check(m: &Batched, [a, b, c]: [&Tensor; 3], epilogue: Epilogue<'_>) -> Result<()> {
    let reach = |batch: usize, row: usize, rows: usize, last: usize| {
        (m.batches.max(1) - 1) * batch + (rows.max(1) - 1) * row + last.div_ceil(4)
    };
    let (a_rows, a_last) = if m.form.trans_a { (m.inner, m.rows) } else { (m.rows, m.inner) };
    let (b_rows, b_last) = if m.form.trans_b { (m.width, m.inner) } else { (m.inner, m.width) };
    let of = |operand, rows, plain| match m.images {
        Some(images) if images.of == operand => images.cells(rows),
        _ => plain,
    };
    let c_reach = of(Operand::C, m.rows, reach(m.c_batch, m.c_row, m.rows, m.width));
    let bias_reach = reach(m.bias_batch, 0, 1, m.width);
    let mut needs: Vec<(&str, &View, usize)> = vec![
        ("A", a, of(Operand::A, m.rows, reach(m.a_batch, m.a_row, a_rows, a_last))),
        ("B", b, of(Operand::B, m.inner, reach(m.b_batch, m.b_row, b_rows, b_last))),
        ("C", c, c_reach),
    ];
    match epilogue {
        Epilogue::None | Epilogue::Added => {}
        Epilogue::Bias(bias) => needs.push(("bias", bias, bias_reach)),
        Epilogue::BiasChannel(bias) => {
            needs.push(("bias", bias, m.images.map_or(bias_reach, |images| images.channels.div_ceil(4))));
        }
        Epilogue::GeluSlope { pre_activation } => needs.push(("pre-activation", pre_activation, c_reach)),
        Epilogue::RowSums { sums, .. } if m.form.trans_a => {
            needs.push(("sums of rows", sums, m.batches * m.rows.div_ceil(4)));
        }
        Epilogue::RowSums { .. } => {
            return Err(Error::shape("matmul", "a transposed A where its rows are summed", format!("{:?}", m.form)));
        }
        Epilogue::BiasGelu { bias, pre_activation: other } | Epilogue::BiasResidual { bias, residual: other } => {
            needs.extend([("bias", bias, bias_reach), ("pre-activation or residual", other, c_reach)]);
        }
    }
    for (name, view, cells) in needs {
        let has = view.bytes() / (4 * view.dtype().bytes());
        if m.batches * m.rows * m.width * m.inner == 0 || cells as u64 > has {
            return Err(Error::shape("matmul", format!("{name} of at least {cells} cells"), format!("{has}")));
        }
    }
    Ok(())
}

/// All four forms at sizes around the tiles, the epilogues, batches with shared and interleaved operands.
#[must_use]
pub fn cases() -> Vec<Case> {
    // (601, 437, 5) is large enough for the widest tile; hardware takes K of 1536 in parts.
    let sizes = [
        (1, 1, 1),
        (3, 5, 7),
        (16, 64, 8),
        (17, 130, 9),
        (33, 31, 66),
        (5, 129, 3),
        (20, 9, 1536),
        (4, 30, 1536),
        (601, 437, 5),
    ];
    let run = |ctx: &Context, m: &Batched, a: &Tensor, b: &Tensor, c: &Tensor, epilogue: Epilogue<'_>| {
        launch_batched(ctx, m, a, b, c, epilogue)
    };
    let mut cases = matmul_cases::forms("product", true, &sizes, run);
    cases.extend(matmul_cases::batches(run));
    cases
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "sum.c0 = sum.c1;", replace: "" },
    Fault { find: "add_rows(sums, s, within(k))", replace: "add_rows(sums, s, vec4(1.0))" },
    Fault { find: "left.low[3], high[0])", replace: "left.low[3], high[1])" },
    Fault { find: "if (first && lid == 0u)", replace: "if (lid == 0u)" },
    Fault { find: "k < vec4(p.inner)", replace: "k <= vec4(p.inner)" },
    Fault { find: "vec4(0u, 1u, 2u, 3u) < vec4(p.width)", replace: "vec4(0u, 1u, 2u, 3u) <= vec4(p.width)" },
    Fault { find: "batch * p.bias_batch + column", replace: "column" },
    Fault { find: "store_row(batch, row + 3u,", replace: "store_row(batch, row + 2u," },
];
