//! Gradient of the mean cross-entropy.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::cross_entropy::{SHAPES, layout};
use crate::kernels::masks::Groups;
use crate::kernels::rows::lanes;
use crate::kernels::{Case, Fault, Tolerance, cross_entropy, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// In the place of the logits: `upstream * inverse * mask[r] * (exp(logits[r, c] - lse[r]) - [c == target[r]])`.
pub static KERNEL: Kernel = Kernel {
    name: "cross_entropy_backward",
    source: include_str!("../../shaders/cross_entropy_backward.wgsl"),
    parts: &[Part::Grid],
    bindings: &[
        Binding::f32("upstream"),
        Binding::f32("inverse"),
        Binding::u32("targets"),
        Binding::f32("mask"),
        Binding::f32("lse"),
        Binding::stored_mut("logits"),
    ],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    width: u32,
    cells: u32,
    group: u32,
    group_stride: u32,
}

/// Writes the gradient of the logits over them, who are lost. `upstream` () F32 is the gradient of the loss;
/// `inverse` and `lse` come from [`cross_entropy::launch`], the rest as it was there.
///
/// # Errors
/// A shape error when targets, mask or lse do not fit the rows of the logits.
pub fn launch_over(
    ctx: &Context,
    upstream: &Tensor,
    inverse: &Tensor,
    logits: &Tensor,
    targets: &Tensor,
    mask: &Tensor,
    lse: &Tensor,
) -> Result<()> {
    let places = layout("cross_entropy_backward", logits, targets, mask)?;
    let shape = logits.shape();
    let rows = shape.rows();
    if lse.dims() != [rows] {
        return Err(Error::shape("cross_entropy_backward", format!("lse of ({rows})"), lse.shape()));
    }
    let lanes = lanes(ctx, rows, shape.cells());
    Launch::new(&KERNEL)
        .tensors(&[upstream, inverse, targets, mask, lse, logits])
        .params(&Params {
            rows: rows as u32,
            width: shape.last() as u32,
            cells: shape.cells() as u32,
            group: places.group,
            group_stride: places.stride,
        })
        .constant("ROW_LANES", lanes as f64)
        .groups(rows.div_ceil(64 / lanes))
        .flops(4.0 * shape.elements() as f64)
        .run(ctx)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let scale = f64::from(t.f32(0)[0]) * f64::from(t.f32(1)[0]);
    let (logits, targets, mask, lse) = (t.f32(5), t.u32(2), t.f32(3), t.f32(4));
    let places = Groups { group: p.group, stride: p.group_stride };
    let (width, stride) = (p.width as usize, 4 * p.cells as usize);
    let mut gradient = vec![0.0; logits.len()];
    for r in 0..p.rows as usize {
        let (target, keep) = (targets[places.at(r)] as usize, f64::from(mask[places.at(r)]));
        if target >= width || keep == 0.0 {
            continue;
        }
        for c in 0..width {
            let softmax = (f64::from(logits[r * stride + c]) - f64::from(lse[r])).exp();
            let hit = if c == target { 1.0 } else { 0.0 };
            gradient[r * stride + c] = (scale * keep * (softmax - hit)) as f32;
        }
    }
    t.put_f32(5, gradient);
    Ok(())
}

/// Shapes for the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    SHAPES
        .into_iter()
        .map(|(b, l, v, limit)| {
            let name = format!("{b}x{l} of {v}, targets below {limit}");
            Case::new(name, Tolerance::sum(16), move |ctx, storage| {
                let upstream = samples::uniform(ctx, &[], DType::F32, 4)?;
                let inverse = samples::uniform(ctx, &[], DType::F32, 5)?;
                let logits = samples::normal(ctx, &[b * l, v], storage, 1)?;
                let targets = samples::ids(ctx, &[b, l], limit, 2)?;
                let mask = samples::mask(ctx, &[b, l], 0.8, 3)?;
                let (_, _, lse) = cross_entropy::launch(ctx, &logits, &targets, &mask)?;
                launch_over(ctx, &upstream, &inverse, &logits, &targets, &mask, &lse)?;
                Ok(vec![logits])
            })
        })
        .collect()
}

/// Mistakes that the cases must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "c += ROW_LANES", replace: "c += 2u * ROW_LANES" },
    Fault { find: " - hit)", replace: ")" },
    Fault { find: "inverse[0] * mask[place]", replace: "inverse[0]" },
    Fault { find: "g = select(vec4<f32>(0.0), g, classes < vec4<u32>(p.width));", replace: "" },
    Fault { find: "(row / p.group) * p.group_stride + row % p.group", replace: "row" },
];
