//! The total loss: a weighted sum of scalars.

use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::shape::DType;
use crate::tensor::Tensor;

/// `y = wa * a + wb * b + wc * c + wd * d`.
pub static KERNEL: Kernel = Kernel {
    name: "weighted_sum",
    source: include_str!("../../shaders/weighted_sum.wgsl"),
    parts: &[Part::Grid],
    bindings: &[Binding::f32("a"), Binding::f32("b"), Binding::f32("c"), Binding::f32("d"), Binding::f32_mut("y")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    terms: u32,
    wa: f32,
    wb: f32,
    wc: f32,
    wd: f32,
}

/// Returns the sum of `weight * scalar` over one to four terms, () F32. A scalar may stand in several terms.
///
/// # Errors
/// A shape error for no term, more than four, or a term that is not a scalar.
pub fn launch(ctx: &Context, terms: &[(&Tensor, f32)]) -> Result<Tensor> {
    let bad = terms.iter().find(|(scalar, _)| scalar.shape().elements() != 1);
    if terms.is_empty() || terms.len() > 4 || bad.is_some() {
        let got = bad.map_or_else(|| format!("{} terms", terms.len()), |(scalar, _)| scalar.shape().to_string());
        return Err(Error::shape("weighted_sum", "one to four scalars", got));
    }
    let y = Tensor::empty(ctx, &[], DType::F32)?;
    let unread = Tensor::empty(ctx, &[], DType::F32)?;
    let scalar = |i: usize| terms.get(i).map_or(&unread, |(scalar, _)| scalar);
    let weight = |i: usize| terms.get(i).map_or(0.0, |(_, weight)| *weight);
    Launch::new(&KERNEL)
        .tensors(&[scalar(0), scalar(1), scalar(2), scalar(3), &y])
        .params(&Params { terms: terms.len() as u32, wa: weight(0), wb: weight(1), wc: weight(2), wd: weight(3) })
        .groups(1)
        .flops(2.0 * terms.len() as f64)
        .run(ctx)?;
    Ok(y)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let terms = [p.wa, p.wb, p.wc, p.wd].into_iter().enumerate().take(p.terms as usize);
    let sum: f64 = terms.map(|(i, weight)| f64::from(weight) * f64::from(t.f32(i)[0])).sum();
    t.put_f32(4, vec![sum as f32, 0.0, 0.0, 0.0]);
    Ok(())
}

/// Numbers of terms for the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    (1..=4usize)
        .map(|count| {
            Case::new(format!("{count} terms"), Tolerance::sum(4), move |ctx, _| {
                let scalars =
                    (0..count).map(|i| samples::normal(ctx, &[], DType::F32, i as u64)).collect::<Result<Vec<_>>>()?;
                let terms: Vec<_> = scalars.iter().zip([1.0, 0.1, -0.5, 3.0]).collect();
                Ok(vec![launch(ctx, &terms)?])
            })
        })
        .collect()
}

/// Mistakes that the cases must notice.
pub const FAULTS: &[Fault] = &[
    Fault { find: "p.terms > 1u", replace: "true" },
    Fault { find: "p.terms > 3u", replace: "false" },
    Fault { find: "p.wc * c[0]", replace: "p.wb * c[0]" },
];
