//! Partial sums of squares: the first half of a global gradient norm.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `partials[g] = sum of x[i]^2` over the cells of workgroup g.
pub static KERNEL: Kernel = Kernel {
    name: "sum_squares",
    source: include_str!("../../shaders/sum_squares.wgsl"),
    parts: &[Part::Grid, Part::Cells, Part::Rows, Part::Reduce],
    bindings: &[Binding::f32("x"), Binding::f32_mut("partials")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
    groups: u32,
    chunk: u32,
}

const WORKGROUP: usize = 64;

/// How many partial sums a tensor of `elements` gives: a multiple of 64, enough to fill a large device, not so many that
/// adding them up takes time.
#[must_use]
pub fn partials(elements: usize) -> usize {
    let cells_of_64_groups = 4 * 8 * WORKGROUP * 64;
    64 * elements.div_ceil(cells_of_64_groups).clamp(1, 16)
}

/// Writes the partial sums of `x` (any shape, f32) to `partials` (groups), whose length is the number of workgroups and a
/// multiple of four.
///
/// # Errors
/// [`Error::Shape`] when `partials` is not such a vector.
pub fn launch(ctx: &Context, x: &Tensor, partials: &Tensor) -> Result<()> {
    let groups = partials.shape().elements();
    if partials.shape().rank() != 1 || !groups.is_multiple_of(4) {
        return Err(Error::shape("sum_squares", "partials (groups), a multiple of 4", partials.shape()));
    }
    let cells = x.shape().stored() / 4;
    let chunk = cells.div_ceil(groups).next_multiple_of(WORKGROUP);
    Launch::new(&KERNEL)
        .tensors(&[x, partials])
        .params(&Params { cells: cells as u32, groups: groups as u32, chunk: chunk as u32 })
        .constant("SIDE", if ctx.capabilities().software { 8.0 } else { 64.0 })
        .groups(groups)
        .flops(2.0 * x.shape().elements() as f64)
        .run(ctx)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (x, groups) = (t.f32(0), p.groups as usize);
    let mut sums = vec![0.0f64; groups];
    for (sum, values) in sums.iter_mut().zip(x.chunks(4 * p.chunk as usize)) {
        *sum = values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>();
    }
    t.put_f32(1, sums.into_iter().map(|sum| sum as f32).collect());
    Ok(())
}

/// One element, sizes around a chunk of 64 cells, several turns of the loop, groups with nothing to do.
pub fn cases() -> Vec<Case> {
    [(1usize, 4usize), (7, 4), (256, 4), (257, 8), (1029, 4), (5003, 64), (40_000, 64), (200_003, 64)]
        .into_iter()
        .map(|(elements, groups)| {
            let terms = elements.div_ceil(groups);
            Case::new(format!("{elements} in {groups}"), Tolerance::sum(terms), move |ctx, _| {
                let x = samples::normal(ctx, &[elements], DType::F32, 1)?;
                let sums = Tensor::empty(ctx, &[groups], DType::F32)?;
                launch(ctx, &x, &sums)?;
                Ok(vec![sums])
            })
        })
        .collect()
}

/// Wrong texts that a case must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "sums += v * v", replace: "sums += v" },
    Fault { find: "v1 * v1", replace: "v0 * v1" },
    Fault { find: "cell += SIDE", replace: "cell += 2u * SIDE" },
    Fault { find: "cell += 4u * SIDE", replace: "cell += 5u * SIDE" },
    Fault { find: "min(first + part, p.cells)", replace: "first + part" },
    Fault { find: "vec4<f32>(1.0)", replace: "vec4<f32>(1.0, 1.0, 1.0, 0.0)" },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partial_counts() {
        let cases = [(1, 64), (131_072, 64), (131_073, 128), (1 << 29, 1024)];
        let failed: Vec<_> = cases
            .iter()
            .map(|(elements, want)| (elements, want, partials(*elements)))
            .filter(|(_, want, got)| *want != got)
            .collect();
        assert!(failed.is_empty(), "(elements, want, got): {failed:?}");
    }
}
