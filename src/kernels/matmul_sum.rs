//! The sum of the partial products of a matmul that was split along K, then its epilogue.

use bytemuck::{Pod, Zeroable};

use super::matmul_plan::{Plan, Variant};
use super::{matmul, matmul_cases, matmul_tiled, matmul_twin};
use crate::device::{Binding, Context, Epilogue, EpilogueKind, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault};
use crate::tensor::Tensor;

/// `c = epilogue(sum over s of x[s])`, in the order of s.
pub static KERNEL: Kernel = Kernel {
    name: "matmul_sum",
    source: include_str!("../../shaders/matmul_sum.wgsl"),
    parts: &[Part::Grid, Part::Gelu],
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
}

/// Adds `splits` partial products, x (splits * rows, width) F32, into c, whose rows lie `c_row` cells apart.
///
/// # Errors
/// `Error::Shape` when x does not hold that many products or c is too short.
pub fn launch(
    ctx: &Context,
    x: &Tensor,
    splits: usize,
    c: &Tensor,
    c_row: usize,
    epilogue: Epilogue<'_>,
) -> Result<()> {
    let (rows, cells) = (x.shape().rows() / splits.max(1), x.shape().cells());
    let has = c.bytes() / (4 * c.dtype().bytes());
    if rows == 0 || rows * splits != x.shape().rows() || ((rows - 1) * c_row + cells) as u64 > has {
        return Err(Error::shape("matmul_sum", format!("{splits} products of {has} cells"), x.shape()));
    }
    Launch::new(&KERNEL)
        .tensors(&[x, c])
        .epilogue(epilogue)
        .params(&Params { rows: rows as u32, cells: cells as u32, splits: splits as u32, c_row: c_row as u32 })
        .groups((rows * cells).div_ceil(64))
        .flops(x.shape().elements() as f64)
        .run(ctx)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (x, mut c) = (t.f32(0), t.f32(1));
    let kind = t.epilogue();
    let (bias, mut other) = matmul_twin::buffers(t, 2);
    let (rows, stride) = (p.rows as usize, 4 * p.cells as usize);
    for row in 0..rows {
        for column in 0..stride {
            let to = row * 4 * p.c_row as usize + column;
            let from = |s: usize| f64::from(x[(s * rows + row) * stride + column]);
            let sum: f64 = (0..p.splits as usize).map(from).sum();
            c[to] = matmul_twin::finish(kind, sum, bias.get(column).copied(), other.get_mut(to), c[to]);
        }
    }
    t.put_f32(1, c);
    if kind == EpilogueKind::BiasGelu {
        t.put_f32(3, other);
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
    Fault { find: "s * p.rows * p.cells + i", replace: "s * p.cells + i" },
    Fault { find: "epilogue(at, cell, sum)", replace: "epilogue(at, i, sum)" },
    Fault { find: "var sum = floats(x[i]);", replace: "var sum = 2.0 * floats(x[i]);" },
];
