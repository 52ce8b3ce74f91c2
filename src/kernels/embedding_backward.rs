//! Gradient of a table whose rows were looked up.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::embedding::SHAPES;
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `dtable[v] += sum over r with ids[r] == v of dy[r]`, in the order of r.
pub static KERNEL: Kernel = Kernel {
    name: "embedding_backward",
    source: include_str!("../../shaders/embedding_backward.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("dy"), Binding::u32("ids"), Binding::f32_mut("dtable")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    groups: u32,
    group: u32,
    group_cells: u32,
    entries: u32,
    cells: u32,
}

/// Returns dtable (`entries`, E) F32, zero in rows that no id names. dy (.., E) has one row per id; ids U32, such as (B, L).
///
/// # Errors
/// A shape error when there are not as many rows in dy as ids.
pub fn launch(ctx: &Context, dy: &Tensor, ids: &Tensor, entries: usize) -> Result<Tensor> {
    let shape = dy.shape();
    let rows = shape.rows();
    if ids.shape().elements() != rows {
        return Err(Error::shape("embedding_backward", format!("{rows} ids"), ids.shape()));
    }
    // The kernel touches only rows that an id names: a vocabulary is much larger than a batch.
    let dtable = Tensor::zeros(ctx, &[entries, shape.last()], DType::F32)?;
    Launch::new(&KERNEL)
        .tensors(&[dy, ids, &dtable])
        .params(&Params {
            groups: ids.shape().rows() as u32,
            group: ids.shape().last() as u32,
            group_cells: ids.shape().cells() as u32,
            entries: entries as u32,
            cells: shape.cells() as u32,
        })
        .groups(rows)
        .flops(shape.elements() as f64)
        .run(ctx)?;
    Ok(dtable)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (dy, ids) = (t.f32(0), t.u32(1));
    let stride = 4 * p.cells as usize;
    let mut sums: Vec<f64> = t.f32(2).into_iter().map(f64::from).collect();
    let ids = ids.chunks_exact(4 * p.group_cells as usize).take(p.groups as usize);
    let ids = ids.flat_map(|group| group.iter().take(p.group as usize));
    for (&id, row) in ids.zip(dy.chunks_exact(stride)) {
        if id < p.entries {
            let to = id as usize * stride;
            sums[to..to + stride].iter_mut().zip(row).for_each(|(sum, g)| *sum += f64::from(*g));
        }
    }
    t.put_f32(2, sums.into_iter().map(|v| v as f32).collect());
    Ok(())
}

/// Shapes for the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    SHAPES
        .into_iter()
        .map(|(b, l, v, e, limit)| {
            Case::new(format!("{b}x{l} of {v}x{e}, ids below {limit}"), Tolerance::sum(b * l), move |ctx, storage| {
                let dy = samples::normal(ctx, &[b, l, e], storage, 1)?;
                Ok(vec![launch(ctx, &dy, &samples::ids(ctx, &[b, l], limit, 2)?, v)?])
            })
        })
        .collect()
}

/// Mistakes that the cases must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "found != id || place >= p.group", replace: "found != id" },
    Fault { find: "sum += matching(id, found.z, g, 4u * i + 2u, cell);", replace: "" },
    Fault { find: "var g = own;", replace: "var g = own + 1u;" },
];
