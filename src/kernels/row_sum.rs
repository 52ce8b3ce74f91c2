//! Sum of every row.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::Result;
use crate::kernels::rows::{lanes, workgroups};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `y[r] = sum over c of x[r, c]`.
pub static KERNEL: Kernel = Kernel {
    name: "row_sum",
    source: include_str!("../../shaders/row_sum.wgsl"),
    parts: &[Part::Grid, Part::Rows, Part::Reduce],
    bindings: &[Binding::stored("x"), Binding::f32_mut("y")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    cells: u32,
}

/// Returns (rows) F32. x is F32 or F16, of any rank; its rows lie along the last axis.
///
/// # Errors
/// Whatever the device reports.
pub fn launch(ctx: &Context, x: &Tensor) -> Result<Tensor> {
    let shape = x.shape();
    let rows = shape.rows();
    let y = Tensor::empty(ctx, &[rows], DType::F32)?;
    let lanes = lanes(ctx, rows, shape.cells());
    Launch::new(&KERNEL)
        .tensors(&[x, &y])
        .params(&Params { rows: rows as u32, cells: shape.cells() as u32 })
        .constant("ROW_LANES", lanes as f64)
        .groups(workgroups(rows, lanes))
        .flops(shape.elements() as f64)
        .run(ctx)?;
    Ok(y)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let x = t.f32(0);
    let mut y: Vec<f32> = x
        .chunks_exact(4 * p.cells as usize)
        .take(p.rows as usize)
        .map(|row| row.iter().map(|&v| f64::from(v)).sum::<f64>() as f32)
        .collect();
    y.resize(y.len().next_multiple_of(4), 0.0);
    t.put_f32(1, y);
    Ok(())
}

/// Shapes for the parity test; the last one has more rows than one grid dimension holds.
#[must_use]
pub fn cases() -> Vec<Case> {
    [(1, 1), (3, 5), (7, 64), (5, 257), (2, 1031), (70, 257), (66_000, 3)]
        .into_iter()
        .map(|(r, w)| {
            Case::new(format!("{r}x{w}"), Tolerance::sum(w), move |ctx, storage| {
                Ok(vec![launch(ctx, &samples::normal(ctx, &[r, w], storage, 1)?)?])
            })
        })
        .collect()
}

/// Mistakes that the cases must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "c += ROW_LANES", replace: "c += 2u * ROW_LANES" },
    Fault { find: "reduce_sum(lid, add4(sum))", replace: "add4(sum)" },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::{ContextOptions, Lanes};

    /// Subgroups here are narrow; rows of no more lanes than those have are summed as in wide ones.
    #[test]
    fn rows_narrower_than_a_subgroup() -> Result<()> {
        let gpu = Context::new(&ContextOptions { as_hardware: true, ..Default::default() })?;
        if gpu.capabilities().lanes() != Lanes::Known || gpu.capabilities().subgroup_size < Some(8) {
            eprintln!("no subgroups of one size and eight lanes: skipped");
            return Ok(());
        }
        let x = samples::normal(&gpu, &[70, 37], DType::F32, 1)?;
        let y = Tensor::empty(&gpu, &[70], DType::F32)?;
        Launch::new(&KERNEL)
            .tensors(&[&x, &y])
            .params(&Params { rows: 70, cells: 10 })
            .constant("ROW_LANES", 8.0)
            .constant("SUBGROUP", 64.0)
            .groups(workgroups(70, 8))
            .run(&gpu)?;
        let cpu = Context::cpu();
        let want = launch(&cpu, &samples::normal(&cpu, &[70, 37], DType::F32, 1)?)?.to_f32()?;
        let tolerance = Tolerance::sum(37);
        let wrong: Vec<_> = y.to_f32()?.into_iter().zip(want).filter(|(a, b)| !tolerance.accepts(*a, *b)).collect();
        assert!(wrong.is_empty(), "(got, want): {wrong:?}");
        Ok(())
    }
}
