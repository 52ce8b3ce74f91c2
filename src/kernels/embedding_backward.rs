//! Gradient of a table whose rows were looked up.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::embedding::SHAPES;
use crate::kernels::{Case, Fault, Tolerance, embedding_links, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `dtable[v] += sum over r with ids[r] == v of dy[r]`, in the order of r.
pub static KERNEL: Kernel = Kernel {
    name: "embedding_backward",
    source: include_str!("../../shaders/embedding_backward.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("dy"), Binding::u32("links"), Binding::f32_mut("dtable")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    cells: u32,
}

/// Returns dtable (`entries`, E) F32, zero in rows that no id names. dy (.., E) has one row per id; ids U32, such as (B, L).
///
/// # Errors
/// A shape error when there are not as many rows in dy as ids.
pub fn launch(ctx: &Context, dy: &Tensor, ids: &Tensor, entries: usize) -> Result<Tensor> {
    let dtable = Tensor::zeros(ctx, &[entries, dy.shape().last()], DType::F32)?;
    launch_into(ctx, dy, ids, &dtable)?;
    Ok(dtable)
}

/// Adds to dtable (V, E) F32, touching only rows that an id names: a vocabulary is much larger than a batch.
///
/// # Errors
/// As [`launch`]; a shape error when the rows of `dtable` have another length.
pub fn launch_into(ctx: &Context, dy: &Tensor, ids: &Tensor, dtable: &Tensor) -> Result<()> {
    let shape = dy.shape();
    let rows = shape.rows();
    if ids.shape().elements() != rows {
        return Err(Error::shape("embedding_backward", format!("{rows} ids"), ids.shape()));
    }
    if dtable.shape().last() != shape.last() {
        return Err(Error::shape("embedding_backward", format!("dtable (V, {})", shape.last()), dtable.shape()));
    }
    let links = embedding_links::launch(ctx, ids, dtable.shape().rows())?;
    Launch::new(&KERNEL)
        .tensors(&[dy, &links, dtable])
        .params(&Params { rows: rows as u32, cells: shape.cells() as u32 })
        .groups(rows)
        .flops(shape.elements() as f64)
        .run(ctx)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (dy, links) = (t.f32(0), t.u32(1));
    let (rows, stride) = (p.rows as usize, 4 * p.cells as usize);
    let mut sums: Vec<f64> = t.f32(2).into_iter().map(f64::from).collect();
    // An id that leads somewhere is in the table, and so are all rows with that id.
    let leading = links.chunks_exact(4).take(rows).filter(|link| link[0] == 1).map(|link| link[2]);
    let known: std::collections::BTreeSet<u32> = leading.collect();
    for (link, row) in links.chunks_exact(4).zip(dy.chunks_exact(stride)).filter(|(link, _)| known.contains(&link[2])) {
        let to = link[2] as usize * stride;
        sums[to..to + stride].iter_mut().zip(row).for_each(|(sum, g)| *sum += f64::from(*g));
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
    Fault { find: " || links[first].x == 0u", replace: "" },
    Fault { find: "row = links[row].y", replace: "row = p.rows" },
    Fault { find: "c += WORKGROUP", replace: "c += 2u * WORKGROUP" },
];
