//! Mean cross-entropy over the rows that count.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::masks::{Groups, groups};
use crate::kernels::rows::{lanes, workgroups};
use crate::kernels::{Case, Fault, Tolerance, loss_mean, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `loss[r] = lse[r] - logits[r, target[r]]` with `lse[r] = log(sum over c of exp(logits[r, c]))`.
pub static KERNEL: Kernel = Kernel {
    name: "cross_entropy",
    source: include_str!("../../shaders/cross_entropy.wgsl"),
    parts: &[Part::Grid, Part::Rows, Part::Reduce],
    bindings: &[
        Binding::stored("logits"),
        Binding::u32("targets"),
        Binding::f32("mask"),
        Binding::f32_mut("lse"),
        Binding::f32_mut("pairs"),
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

/// How targets and mask lie in memory: both one value per row of the logits, in the same shape.
pub(crate) fn layout(operation: &'static str, logits: &Tensor, targets: &Tensor, mask: &Tensor) -> Result<Groups> {
    if mask.dims() != targets.dims() {
        return Err(Error::shape(operation, format!("a mask shaped as the targets {}", targets.shape()), mask.shape()));
    }
    groups(operation, "targets", targets, logits.shape().rows())
}

/// Returns `(loss, inverse, lse)`: the mean over the kept rows of `-log softmax(logits)[target]` and 1 over their number,
/// both () F32 and 0 when none is kept; lse (R) F32 for the backward kernel. logits (.., V) with R rows; targets U32 and
/// mask F32 0/1, both of R values, such as (B, L). A target of V or more drops its row.
///
/// # Errors
/// A shape error when targets or mask do not fit the rows of the logits.
pub fn launch(ctx: &Context, logits: &Tensor, targets: &Tensor, mask: &Tensor) -> Result<(Tensor, Tensor, Tensor)> {
    let places = layout("cross_entropy", logits, targets, mask)?;
    let shape = logits.shape();
    let rows = shape.rows();
    let lse = Tensor::empty(ctx, &[rows], DType::F32)?;
    let pairs = Tensor::empty(ctx, &[rows, 2], DType::F32)?;
    let lanes = lanes(ctx, rows, shape.cells());
    Launch::new(&KERNEL)
        .tensors(&[logits, targets, mask, &lse, &pairs])
        .params(&Params {
            rows: rows as u32,
            width: shape.last() as u32,
            cells: shape.cells() as u32,
            group: places.group,
            group_stride: places.stride,
        })
        .constant("ROW_LANES", lanes as f64)
        .groups(workgroups(rows, lanes))
        .flops(5.0 * shape.elements() as f64)
        .run(ctx)?;
    let (loss, inverse) = loss_mean::launch(ctx, &pairs, 1, 1)?;
    Ok((loss, inverse, lse))
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (logits, targets, mask) = (t.f32(0), t.u32(1), t.f32(2));
    let places = Groups { group: p.group, stride: p.group_stride };
    let (rows, width, stride) = (p.rows as usize, p.width as usize, 4 * p.cells as usize);
    let mut lse = vec![0.0; rows.next_multiple_of(4)];
    let mut pairs = vec![0.0; 4 * rows];
    for r in 0..rows {
        let (target, keep) = (targets[places.at(r)] as usize, mask[places.at(r)]);
        if target >= width || keep == 0.0 {
            continue;
        }
        let row = &logits[r * stride..r * stride + width];
        let highest = row.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = row.iter().map(|&v| f64::from(v - highest).exp()).sum();
        let value = f64::from(highest) + sum.ln();
        lse[r] = value as f32;
        pairs[4 * r] = (f64::from(keep) * (value - f64::from(row[target]))) as f32;
        pairs[4 * r + 1] = keep;
    }
    t.put_f32(3, lse);
    t.put_f32(4, pairs);
    Ok(())
}

/// (samples, length, classes, ids drawn below) for the parity tests of this kernel and its gradient; more ids than
/// classes: some targets are none.
pub(crate) const SHAPES: [(usize, usize, usize, u32); 7] = [
    (5, 14, 257, 300),
    (1, 1, 1, 1),
    (3, 5, 7, 7),
    (2, 3, 64, 64),
    (5, 6, 257, 257),
    (3, 7, 10, 15),
    (1, 2, 5003, 5003),
];

/// Shapes for the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    SHAPES
        .into_iter()
        .map(|(b, l, v, limit)| {
            let name = format!("{b}x{l} of {v}, targets below {limit}");
            Case::new(name, Tolerance::sum(v.max(b * l)), move |ctx, storage| {
                let logits = samples::normal(ctx, &[b * l, v], storage, 1)?;
                let targets = samples::ids(ctx, &[b, l], limit, 2)?;
                let mask = samples::mask(ctx, &[b, l], 0.8, 3)?;
                let (loss, inverse, lse) = launch(ctx, &logits, &targets, &mask)?;
                Ok(vec![loss, inverse, lse])
            })
        })
        .collect()
}

/// Mistakes that the cases must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "sum * exp(top - higher) + ", replace: "sum + " },
    Fault { find: "sum * exp(top - highest)", replace: "sum" },
    Fault { find: "(own / p.group) * p.group_stride + own % p.group", replace: "own" },
    Fault { find: "[label % 4u]", replace: "[0]" },
    Fault { find: "c + 2u * ROW_LANES", replace: "c" },
    Fault { find: "unpack4(logits[i.y])", replace: "unpack4(logits[i.x])" },
    Fault { find: "highest + log(total)", replace: "log(total)" },
];
