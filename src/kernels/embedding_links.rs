//! Which rows hold the same id.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::Result;
use crate::kernels::embedding::SHAPES;
use crate::kernels::masks::Groups;
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `links[r] = (leads, next, id)`: whether r is the first row with its id, and which row with it comes next.
pub static KERNEL: Kernel = Kernel {
    name: "embedding_links",
    source: include_str!("../../shaders/embedding_links.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::u32("ids"), Binding::u32_mut("links")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    entries: u32,
    groups: u32,
    group: u32,
    group_cells: u32,
}

/// Returns links (R, 3) U32 for R ids U32 of any shape: 1 where the id is below `entries` and no row before holds it, else
/// 0; the next row that holds it, or R; the id.
///
/// # Errors
/// Whatever the device reports.
pub fn launch(ctx: &Context, ids: &Tensor, entries: usize) -> Result<Tensor> {
    let shape = ids.shape();
    let rows = shape.elements();
    let links = Tensor::empty(ctx, &[rows, 3], DType::U32)?;
    Launch::new(&KERNEL)
        .tensors(&[ids, &links])
        .params(&Params {
            rows: rows as u32,
            entries: entries as u32,
            groups: shape.rows() as u32,
            group: shape.last() as u32,
            group_cells: shape.cells() as u32,
        })
        .groups(rows.div_ceil(64))
        .run(ctx)?;
    Ok(links)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let ids = t.u32(0);
    let places = Groups { group: p.group, stride: 4 * p.group_cells };
    let ids: Vec<u32> = (0..p.rows as usize).map(|r| ids[places.at(r)]).collect();
    let mut links = Vec::with_capacity(4 * ids.len());
    for (r, &id) in ids.iter().enumerate() {
        let leads = id < p.entries && !ids[..r].contains(&id);
        let next = ids[r + 1..].iter().position(|&other| other == id).map_or(ids.len(), |i| r + 1 + i);
        links.extend([u32::from(leads), next as u32, id, 0]);
    }
    t.put_u32(1, &links);
    Ok(())
}

/// Shapes for the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    SHAPES
        .into_iter()
        .map(|(b, l, v, _, limit)| {
            Case::new(format!("{b}x{l} of {v}, ids below {limit}"), Tolerance::exact(), move |ctx, _| {
                Ok(vec![launch(ctx, &samples::ids(ctx, &[b, l], limit, 2)?, v)?])
            })
        })
        .collect()
}

/// Mistakes that the cases must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "& (places < vec4<u32>(p.group))", replace: "" },
    Fault { find: "rows > vec4<u32>(row)", replace: "rows >= vec4<u32>(row)" },
    Fault { find: "var leads = id < p.entries;", replace: "var leads = true;" },
];
