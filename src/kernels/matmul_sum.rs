//! The sum of the partial products of a matmul that was split along K, then its epilogue.

use bytemuck::{Pod, Zeroable};

use super::matmul_plan::{Plan, Variant};
use super::{matmul, matmul_cases, matmul_tiled, matmul_twin};
use crate::device::{Binding, Context, Epilogue, EpilogueKind, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `c = epilogue(sum over s of x[s])`, in the order of s.
pub static KERNEL: Kernel = Kernel {
    name: "matmul_sum",
    source: include_str!("../../shaders/matmul_sum.wgsl"),
    parts: &[Part::Grid, Part::Gelu, Part::RowSums],
    bindings: &[Binding::f32("x"), Binding::output_mut("c")],
    epilogues: true,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    rows: u32,
    cells: u32,
    splits: u32,
    c_row: u32,
    sums: u32,
}

/// The partial results of one product: `splits` of (rows, width), and behind them as many sums of rows where those are asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Partial {
    pub splits: usize,
    pub rows: usize,
    pub width: usize,
}

impl Partial {
    /// Cells of all products, rounded up to where a window may begin: there the sums lie.
    const fn product_cells(&self) -> usize {
        (self.splits * self.rows * self.width.div_ceil(4)).next_multiple_of(16)
    }

    /// Memory for both.
    pub fn empty(&self, ctx: &Context, kind: EpilogueKind) -> Result<Tensor> {
        let sums = if kind == EpilogueKind::RowSums { self.splits * self.rows.div_ceil(4) } else { 0 };
        Tensor::empty(ctx, &[4 * (self.product_cells() + sums)], DType::F32)
    }

    /// Where the products go, (splits rows, width).
    pub fn products(&self, x: &Tensor) -> Result<Tensor> {
        x.window(0, &[self.splits * self.rows, self.width])
    }

    /// Where the sums go, (splits, rows).
    pub fn sums(&self, x: &Tensor) -> Result<Tensor> {
        x.window(4 * self.product_cells(), &[self.splits, self.rows])
    }
}

/// Adds the partial results in `x` into c, whose rows lie `c_row` cells apart, and into what the epilogue names.
///
/// # Errors
/// `Error::Shape` when c is too short, or x for what it should hold.
pub(super) fn launch(
    ctx: &Context,
    partial: &Partial,
    x: &Tensor,
    c: &Tensor,
    c_row: usize,
    epilogue: Epilogue<'_>,
) -> Result<()> {
    let Partial { splits, rows, width } = *partial;
    let cells = width.div_ceil(4);
    let has = c.bytes() / (4 * c.dtype().bytes());
    let sums = if epilogue.kind() == EpilogueKind::RowSums { rows.div_ceil(4) } else { 0 };
    let needs = if sums > 0 { partial.product_cells() + splits * sums } else { splits * rows * cells };
    if rows * splits == 0 || ((rows - 1) * c_row + cells) as u64 > has || 4 * needs > x.shape().stored() {
        return Err(Error::shape("matmul_sum", format!("{partial:?} into {has} cells"), x.shape()));
    }
    Launch::new(&KERNEL)
        .tensors(&[x, c])
        .epilogue(epilogue)
        .params(&Params {
            rows: rows as u32,
            cells: cells as u32,
            splits: splits as u32,
            c_row: c_row as u32,
            sums: partial.product_cells() as u32,
        })
        .groups((rows * cells + sums).div_ceil(64))
        .flops((splits * rows * width) as f64)
        .run(ctx)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (x, mut c) = (t.f32(0), t.f32(1));
    let kind = t.epilogue();
    let finish = matmul_twin::added(t).unwrap_or(kind);
    let (bias, mut other) = matmul_twin::buffers(t, 2);
    let (rows, stride, splits) = (p.rows as usize, 4 * p.cells as usize, p.splits as usize);
    for row in 0..rows {
        for column in 0..stride {
            let to = row * 4 * p.c_row as usize + column;
            let from = |s: usize| f64::from(x[(s * rows + row) * stride + column]);
            let sum: f64 = (0..splits).map(from).sum();
            c[to] = matmul_twin::finish(finish, sum, bias.get(column).copied(), other.get_mut(to), c[to]);
        }
    }
    t.put_f32(1, c);
    if kind == EpilogueKind::BiasGelu {
        t.put_f32(3, other);
    }
    if kind == EpilogueKind::RowSums {
        let (mut sums, stride) = (t.f32(2), rows.next_multiple_of(4));
        for row in 0..stride {
            let from = |s: usize| f64::from(x[4 * p.sums as usize + s * stride + row]);
            let sum: f64 = (0..splits).map(from).sum();
            sums[row] = matmul_twin::finish(finish, sum, None, None, sums[row]);
        }
        t.put_f32(2, sums);
    }
    Ok(())
}

/// Whole products in parts: partial sums by the tiled kernel, then this one. K of 36 in 3 and 9 parts, of 48 in 2.
#[must_use]
pub fn cases() -> Vec<Case> {
    let sizes = [((9, 6, 36), 3), ((5, 70, 48), 2), ((70, 5, 36), 9), ((33, 31, 48), 4)];
    let mut cases = Vec::new();
    for (size, splits) in sizes {
        cases.extend(matmul_cases::forms(
            &format!("in {splits} parts"),
            false,
            &[size],
            move |ctx, m, a, b, c, epilogue| {
                let plan = Plan { variant: Variant::Tiled(matmul_tiled::SMALL), splits };
                matmul::execute(ctx, &plan, m, [a, b, c], epilogue)
            },
        ));
    }
    cases
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "var s = 1u;", replace: "var s = 2u;" },
    Fault { find: "s + 3u < p.splits", replace: "s + 2u < p.splits" },
    Fault { find: "x[at + 3u * stride]", replace: "x[at + 2u * stride]" },
    Fault { find: "total(i, p.rows * p.cells)", replace: "total(i, p.cells)" },
    Fault { find: "epilogue(at, cell, total", replace: "epilogue(at, i, total" },
    Fault { find: "var sum = floats(x[first]);", replace: "var sum = 2.0 * floats(x[first]);" },
    Fault { find: "total(p.sums + cell, cells)", replace: "total(p.sums, cells)" },
    Fault { find: "if (cell < cells)", replace: "if (cell + 1u < cells)" },
];
