//! C = op(A) op(B) with a fused epilogue, single or batched.

use bytemuck::{Pod, Zeroable};

use crate::device::{Binding, Context, Epilogue, EpilogueKind, Kernel, Launch, Part, Twin, View};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `C[b] = op(A[b]) op(B[b])`, then an epilogue.
pub static KERNEL: Kernel = Kernel {
    name: "matmul",
    source: include_str!("../../shaders/matmul.wgsl"),
    parts: &[Part::Grid, Part::Tile, Part::Gelu],
    bindings: &[Binding::stored("a"), Binding::stored("b"), Binding::output_mut("c")],
    epilogues: true,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    width: u32,
    inner: u32,
    row_tiles: u32,
    column_tiles: u32,
    batches: u32,
    a_row: u32,
    a_batch: u32,
    b_row: u32,
    b_batch: u32,
    c_row: u32,
    c_batch: u32,
    bias_batch: u32,
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
}

/// How a product is cut: blocks of four rows and cells of four columns per invocation, invocations per workgroup, and the
/// numbers of workgroups along the rows and the columns.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tiles {
    pub blocks: usize,
    pub cells: usize,
    pub workgroup: usize,
    pub rows: usize,
    pub columns: usize,
}

impl Tiles {
    /// A cut of `rows` x `cells` cells; `most` cells per invocation at the widest. Processors that play GPU run eight
    /// invocations as one vector and like the largest tile, but compile it slowly: small products share the middle one.
    /// GPUs run out of registers there, and want many workgroups.
    pub fn new(ctx: &Context, rows: usize, cells: usize, most: usize) -> Self {
        let cut = |blocks, width, workgroup| Self {
            blocks,
            cells: width,
            workgroup,
            rows: rows.div_ceil(4 * blocks),
            columns: cells.div_ceil(width * workgroup),
        };
        if ctx.capabilities().software {
            return cut(4, if rows * cells >= 1 << 16 { most } else { most.min(2) }, 8);
        }
        let wide = cut(rows.div_ceil(4).min(2), most.min(2), 32);
        let half_empty = cells <= wide.cells / 2 * wide.workgroup;
        if half_empty || wide.rows * wide.columns < 512 { cut(wide.blocks, 1, 32) } else { wide }
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
    let batched = Batched {
        form: *form,
        batches: 1,
        rows,
        width,
        inner,
        a_row: a.shape().cells(),
        b_row: b.shape().cells(),
        c_row: width.div_ceil(4),
        ..Batched::default()
    };
    launch_batched(ctx, &batched, a, b, c, epilogue)
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
    let tiles = Tiles::new(ctx, m.rows, m.width.div_ceil(4), 4);
    let params = Params {
        rows: m.rows as u32,
        width: m.width as u32,
        inner: m.inner as u32,
        row_tiles: tiles.rows as u32,
        column_tiles: tiles.columns as u32,
        batches: m.batches as u32,
        a_row: m.a_row as u32,
        a_batch: m.a_batch as u32,
        b_row: m.b_row as u32,
        b_batch: m.b_batch as u32,
        c_row: m.c_row as u32,
        c_batch: m.c_batch as u32,
        bias_batch: m.bias_batch as u32,
    };
    tiles
        .constants(Launch::new(&KERNEL).tensors(&[a, b, c]).epilogue(epilogue))
        .constant("TRANS_A", f64::from(m.form.trans_a))
        .constant("TRANS_B", f64::from(m.form.trans_b))
        .params(&params)
        .groups(tiles.rows * tiles.columns * m.batches)
        .flops(2.0 * m.batches as f64 * m.rows as f64 * m.width as f64 * m.inner as f64)
        .run(ctx)
}

/// Whether every row that the products touch lies inside its buffer.
fn check(m: &Batched, [a, b, c]: [&Tensor; 3], epilogue: Epilogue<'_>) -> Result<()> {
    let reach = |batch: usize, row: usize, rows: usize, last: usize| {
        (m.batches.max(1) - 1) * batch + (rows.max(1) - 1) * row + last.div_ceil(4)
    };
    let (a_rows, a_last) = if m.form.trans_a { (m.inner, m.rows) } else { (m.rows, m.inner) };
    let (b_rows, b_last) = if m.form.trans_b { (m.width, m.inner) } else { (m.inner, m.width) };
    let c_reach = reach(m.c_batch, m.c_row, m.rows, m.width);
    let bias_reach = reach(m.bias_batch, 0, 1, m.width);
    let mut needs: Vec<(&str, &View, usize)> = vec![
        ("A", a, reach(m.a_batch, m.a_row, a_rows, a_last)),
        ("B", b, reach(m.b_batch, m.b_row, b_rows, b_last)),
        ("C", c, c_reach),
    ];
    match epilogue {
        Epilogue::None => {}
        Epilogue::Bias(bias) => needs.push(("bias", bias, bias_reach)),
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

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (a, b, mut c) = (t.f32(0), t.f32(1), t.f32(2));
    let kind = t.epilogue();
    let bias = if kind == EpilogueKind::None { Vec::new() } else { t.f32(3) };
    let mut other = if matches!(kind, EpilogueKind::None | EpilogueKind::Bias) { Vec::new() } else { t.f32(4) };
    let (trans_a, trans_b) = (t.flag("TRANS_A"), t.flag("TRANS_B"));
    let at = |trans: bool, stride: u32, row: u32, column: u32| {
        let (row, column) = if trans { (column, row) } else { (row, column) };
        (4 * stride * row + column) as usize
    };
    for batch in 0..p.batches {
        let (a, b) = (&a[(4 * batch * p.a_batch) as usize..], &b[(4 * batch * p.b_batch) as usize..]);
        for row in 0..p.rows {
            for column in 0..p.width.next_multiple_of(4) {
                let to = (4 * (batch * p.c_batch + row * p.c_row) + column) as usize;
                let from = (4 * batch * p.bias_batch + column) as usize;
                if column >= p.width {
                    c[to] = 0.0;
                    if kind == EpilogueKind::BiasGelu {
                        other[to] = 0.0;
                    }
                    continue;
                }
                let term =
                    |k| f64::from(a[at(trans_a, p.a_row, row, k)]) * f64::from(b[at(trans_b, p.b_row, k, column)]);
                let sum: f64 = (0..p.inner).map(term).sum();
                c[to] = match kind {
                    EpilogueKind::None => sum as f32,
                    EpilogueKind::Bias => (sum + f64::from(bias[from])) as f32,
                    EpilogueKind::BiasGelu => {
                        let x = sum + f64::from(bias[from]);
                        other[to] = x as f32;
                        gelu(x) as f32
                    }
                    EpilogueKind::BiasResidual => (sum + f64::from(bias[from]) + f64::from(other[to])) as f32,
                };
            }
        }
    }
    t.put_f32(2, c);
    if kind == EpilogueKind::BiasGelu {
        t.put_f32(4, other);
    }
    Ok(())
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
}

/// All four forms at sizes around the tiles, the epilogues, batches with shared and interleaved operands.
#[must_use]
pub fn cases() -> Vec<Case> {
    // The last is large enough for the widest tile.
    let sizes = [(1, 1, 1), (3, 5, 7), (16, 64, 8), (17, 130, 9), (33, 31, 66), (5, 129, 3), (601, 437, 5)];
    let mut cases = Vec::new();
    for (i, (m, n, k)) in sizes.into_iter().enumerate() {
        for (trans_a, trans_b) in [(false, false), (false, true), (true, false), (true, true)] {
            let form = Matmul { trans_a, trans_b };
            let kind = EpilogueKind::ALL[(i + usize::from(trans_a) + 2 * usize::from(trans_b)) % 4];
            let label = format!("{m}x{n}x{k} {}{} {}", letter(trans_a), letter(trans_b), kind.name());
            cases.push(Case::new(label, Tolerance::sum(k + 2), move |ctx, dtype| {
                let a = samples::normal(ctx, &if trans_a { [k, m] } else { [m, k] }, dtype, 1)?;
                let b = samples::normal(ctx, &if trans_b { [n, k] } else { [k, n] }, dtype, 2)?;
                let bias = samples::normal(ctx, &[n], dtype, 3)?;
                let residual = samples::normal(ctx, &[m, n], dtype, 4)?;
                let pre_activation = Tensor::empty(ctx, &[m, n], dtype)?;
                let epilogue = match kind {
                    EpilogueKind::None => Epilogue::None,
                    EpilogueKind::Bias => Epilogue::Bias(&bias),
                    EpilogueKind::BiasGelu => Epilogue::BiasGelu { bias: &bias, pre_activation: &pre_activation },
                    EpilogueKind::BiasResidual => Epilogue::BiasResidual { bias: &bias, residual: &residual },
                };
                let c = launch(ctx, &form, &a, &b, dtype, epilogue)?;
                Ok(if kind == EpilogueKind::BiasGelu { vec![c, pre_activation] } else { vec![c] })
            }));
        }
    }
    cases.push(Case::new("weight gradient in f32", Tolerance::sum(40), |ctx, dtype| {
        let (a, b) = (samples::normal(ctx, &[2, 20, 9], dtype, 1)?, samples::normal(ctx, &[2, 20, 6], dtype, 2)?);
        let form = Matmul { trans_a: true, trans_b: false };
        Ok(vec![launch(ctx, &form, &a, &b, DType::F32, Epilogue::None)?])
    }));
    for (b, n, d) in [(2, 3, 5), (9, 4, 33)] {
        cases.push(Case::new(format!("one weight per position {b}x{n}x{d}"), Tolerance::sum(d), move |ctx, dtype| {
            let (g, w) = (samples::normal(ctx, &[b, d], dtype, 1)?, samples::normal(ctx, &[n, d, d], dtype, 2)?);
            let bias = samples::normal(ctx, &[n, d], dtype, 3)?;
            let c = Tensor::empty(ctx, &[b, n, d], dtype)?;
            let cells = g.shape().cells();
            let batched = Batched {
                form: Matmul { trans_a: false, trans_b: true },
                batches: n,
                rows: b,
                width: d,
                inner: d,
                a_row: cells,
                a_batch: 0,
                b_row: cells,
                b_batch: d * cells,
                c_row: n * cells,
                c_batch: cells,
                bias_batch: cells,
            };
            launch_batched(ctx, &batched, &g, &w, &c, Epilogue::Bias(&bias))?;
            Ok(vec![c])
        }));
    }
    cases
}

const fn letter(transposed: bool) -> &'static str {
    if transposed { "T" } else { "N" }
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "rows[3] * x.w;", replace: "rows[3] * x.z;" },
    Fault { find: "k < vec4(p.inner)", replace: "k <= vec4(p.inner)" },
    Fault { find: "vec4(0u, 1u, 2u, 3u) < vec4(p.width)", replace: "vec4(0u, 1u, 2u, 3u) <= vec4(p.width)" },
    Fault { find: "batch * p.bias_batch + cell", replace: "cell" },
    Fault { find: "store_row(batch, row + 3u,", replace: "store_row(batch, row + 2u," },
];
