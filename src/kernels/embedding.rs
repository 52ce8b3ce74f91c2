//! Rows of a table by number.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::masks::{Groups, groups};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// `y[r] = table[ids[r]]`, zeros where the id is not in the table.
pub static KERNEL: Kernel = Kernel {
    name: "embedding",
    source: include_str!("../../shaders/embedding.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("table"), Binding::u32("ids"), Binding::stored_mut("y")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    entries: u32,
    cells: u32,
    group: u32,
    group_stride: u32,
}

/// Returns y (B, L, E) in the table's storage, or (L, E) for ids (L). table (V, E); ids (B, L) U32, of which those of V or
/// more give zeros.
///
/// # Errors
/// A shape error when the table is not of rank 2, or the ids are not of rank 1 to 3.
pub fn launch(ctx: &Context, table: &Tensor, ids: &Tensor) -> Result<Tensor> {
    let &[entries, width] = table.dims() else {
        return Err(Error::shape("embedding", "a table (entries, width)", table.shape()));
    };
    let rows = ids.shape().elements();
    let places = groups("embedding", "ids", ids, rows)?;
    let y = Tensor::empty(ctx, &[ids.dims(), &[width]].concat(), table.dtype())?;
    let cells = table.shape().cells();
    Launch::new(&KERNEL)
        .tensors(&[table, ids, &y])
        .params(&Params {
            rows: rows as u32,
            entries: entries as u32,
            cells: cells as u32,
            group: places.group,
            group_stride: places.stride,
        })
        .groups((rows * cells).div_ceil(64))
        .run(ctx)?;
    Ok(y)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (table, ids) = (t.f32(0), t.u32(1));
    let places = Groups { group: p.group, stride: p.group_stride };
    let stride = 4 * p.cells as usize;
    let mut y = vec![0.0; p.rows as usize * stride];
    for (r, row) in y.chunks_exact_mut(stride).enumerate() {
        let id = ids[places.at(r)] as usize;
        if id < p.entries as usize {
            row.copy_from_slice(&table[id * stride..(id + 1) * stride]);
        }
    }
    t.put_f32(2, y);
    Ok(())
}

/// (samples, length, entries, width, ids drawn below) for the parity tests of this kernel and its gradient; the last one
/// has ids that are not in the table.
pub(crate) const SHAPES: [(usize, usize, usize, usize, u32); 5] =
    [(1, 1, 1, 1, 1), (3, 5, 7, 5, 7), (2, 17, 11, 64, 11), (5, 3, 300, 257, 300), (3, 6, 9, 10, 13)];

/// Shapes for the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    SHAPES
        .into_iter()
        .map(|(b, l, v, e, limit)| {
            Case::new(format!("{b}x{l} of {v}x{e}, ids below {limit}"), Tolerance::exact(), move |ctx, storage| {
                let table = samples::normal(ctx, &[v, e], storage, 1)?;
                Ok(vec![launch(ctx, &table, &samples::ids(ctx, &[b, l], limit, 2)?)?])
            })
        })
        .collect()
}

/// Mistakes that the cases must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "(row / p.group) * p.group_stride + row % p.group", replace: "row" },
    Fault { find: "id * p.cells + index - row * p.cells", replace: "id * p.cells" },
    Fault { find: "id < p.entries", replace: "id < p.entries - 1u" },
];
