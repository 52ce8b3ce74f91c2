//! What attention's backward kernels need of each row.

use bytemuck::{Pod, Zeroable};

use super::attention::dot;
use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// statistics = [lse; sum over d of o do].
pub static KERNEL: Kernel = Kernel {
    name: "attention_statistics",
    source: include_str!("../../shaders/attention_statistics.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::stored("o"), Binding::stored("grad"), Binding::f32("lse"), Binding::f32_mut("statistics")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    heads: u32,
    queries: u32,
    cells: u32,
}

/// o and its gradient (B, H, I, d), lse F32 (B, H, I) -> F32 (B, H, 2, I): the log-sum-exp and o . do of every row.
///
/// # Errors
/// `Error::Shape` when shapes differ.
pub fn launch(ctx: &Context, o: &Tensor, grad: &Tensor, lse: &Tensor) -> Result<Tensor> {
    let &[samples, heads, queries, d] = o.dims() else {
        return Err(Error::shape("attention_statistics", "o (B, H, I, d)", o.shape()));
    };
    if grad.shape() != o.shape() || lse.dims() != [samples, heads, queries] {
        let got = format!("do {}, lse {}", grad.shape(), lse.shape());
        return Err(Error::shape("attention_statistics", format!("o {}, lse of its rows", o.shape()), got));
    }
    let statistics = Tensor::empty(ctx, &[samples, heads, 2, queries], DType::F32)?;
    let params = Params { heads: (samples * heads) as u32, queries: queries as u32, cells: d.div_ceil(4) as u32 };
    Launch::new(&KERNEL)
        .tensors(&[o, grad, lse, &statistics])
        .params(&params)
        .groups((samples * heads * queries.div_ceil(4)).div_ceil(64))
        .flops(2.0 * o.shape().elements() as f64)
        .run(ctx)?;
    Ok(statistics)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (o, grad, lse) = (t.f32(0), t.f32(1), t.f32(2));
    let (stride, width) = (p.queries.next_multiple_of(4) as usize, 4 * p.cells as usize);
    let mut statistics = Vec::new();
    for head in 0..p.heads as usize {
        statistics.extend_from_slice(&lse[head * stride..(head + 1) * stride]);
        statistics.extend((0..stride).map(|i| {
            let start = (head * p.queries as usize + i) * width;
            if i < p.queries as usize { dot(&o[start..start + width], &grad[start..start + width]) as f32 } else { 0.0 }
        }));
    }
    t.put_f32(3, statistics);
    Ok(())
}

/// Rows that do and do not fill their cells, more than one workgroup.
#[must_use]
pub fn cases() -> Vec<Case> {
    [(1, 1, 1, 1), (2, 3, 5, 7), (1, 2, 4, 12), (3, 5, 70, 33)]
        .into_iter()
        .map(|(b, h, i, d)| {
            Case::new(format!("{b}x{h}x{i}x{d}"), Tolerance::sum(d), move |ctx, dtype| {
                let (o, grad) =
                    (samples::normal(ctx, &[b, h, i, d], dtype, 1)?, samples::normal(ctx, &[b, h, i, d], dtype, 2)?);
                Ok(vec![launch(ctx, &o, &grad, &samples::normal(ctx, &[b, h, i], DType::F32, 3)?)?])
            })
        })
        .collect()
}

/// Wrong texts.
pub const FAULTS: &[Fault] = &[
    Fault { find: "if (query >= p.queries) { return 0.0; }", replace: "" },
    Fault { find: "2u * head * row_cells", replace: "head * row_cells" },
    Fault { find: "i < start + p.cells", replace: "i + 1u < start + p.cells" },
];
