//! The formula of a product, for the twins of all its variants.

use super::gelu_backward::gelu_slope;
use super::matmul::Params;
use super::matmul_images::{Images, Operand};
use crate::device::{EpilogueKind, Twin};
use crate::error::Result;

/// The formula of every variant.
pub(super) fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (a, b, mut c) = (t.f32(0), t.f32(1), t.f32(2));
    let kind = t.epilogue();
    let (bias, mut other) = buffers(t, 3);
    let (trans_a, trans_b) = (t.flag("TRANS_A"), t.flag("TRANS_B"));
    let images = images(t);
    let at = |operand: Operand, trans: bool, [batch, stride]: [u32; 2], row: u32, column: u32| match images {
        Some(images) if images.of == operand => images.place((batch + row) as usize, column as usize),
        _ => {
            let (row, column) = if trans { (column, row) } else { (row, column) };
            (4 * (batch + stride * row) + column) as usize
        }
    };
    for batch in 0..p.batches {
        let of_a = [batch * p.a_batch, p.a_row];
        let (of_b, of_c) = ([batch * p.b_batch, p.b_row], [batch * p.c_batch, p.c_row]);
        for row in 0..p.rows {
            for column in 0..p.width.next_multiple_of(4) {
                let to = at(Operand::C, false, of_c, row, column);
                let from = match images {
                    Some(images) if images.of == Operand::C => column as usize / (images.side * images.side),
                    _ => (4 * batch * p.bias_batch + column) as usize,
                };
                if column >= p.width {
                    c[to] = 0.0;
                    if kind == EpilogueKind::BiasGelu {
                        other[to] = 0.0;
                    }
                    continue;
                }
                let term = |k| {
                    let (a, b) =
                        (a[at(Operand::A, trans_a, of_a, row, k)], b[at(Operand::B, trans_b, of_b, k, column)]);
                    f64::from(a) * f64::from(b)
                };
                let sum: f64 = (0..p.inner).map(term).sum();
                c[to] = finish(added(t).unwrap_or(kind), sum, bias.get(from).copied(), other.get_mut(to), c[to]);
            }
        }
    }
    t.put_f32(2, c);
    if kind == EpilogueKind::BiasGelu {
        t.put_f32(4, other);
    }
    if kind == EpilogueKind::RowSums {
        let at = |batch: u32, row, k| at(Operand::A, trans_a, [batch * p.a_batch, p.a_row], row, k);
        let sum = |batch, row| (0..p.inner).map(|k| f64::from(a[at(batch, row, k)])).sum();
        let sums = row_sums(&p, t.f32(3), t.flag("ADDED"), sum);
        t.put_f32(3, sums);
    }
    Ok(())
}

/// `sums` with those of the rows of each batch; the padding of a batch's last cell is zero.
fn row_sums(p: &Params, mut sums: Vec<f32>, added: bool, sum: impl Fn(u32, u32) -> f64) -> Vec<f32> {
    let stride = p.rows.next_multiple_of(4);
    for (batch, row) in (0..p.batches).flat_map(|batch| (0..stride).map(move |row| (batch, row))) {
        let to = &mut sums[(batch * stride + row) as usize];
        let total = if row < p.rows { sum(batch, row) } else { 0.0 };
        *to = (total + if added { f64::from(*to) } else { 0.0 }) as f32;
    }
    sums
}

/// What a launch's overrides say lies in images.
fn images(t: &Twin<'_>) -> Option<Images> {
    let mut all = [Operand::A, Operand::B, Operand::C].into_iter();
    let of = all.find(|of| t.constant("PATCHES") == Some(f64::from(*of as u8)))?;
    let size = |name| t.constant(name).map_or(1, |value| value as usize);
    Some(Images { of, channels: size("CHANNELS"), side: size("SIDE"), across: size("ACROSS") })
}

/// What the epilogue's buffers hold, the first of them being buffer `first`: the bias, and what lies as the result does.
pub(super) fn buffers(t: &Twin<'_>, first: usize) -> (Vec<f32>, Vec<f32>) {
    match t.epilogue() {
        EpilogueKind::None | EpilogueKind::Added | EpilogueKind::RowSums => (Vec::new(), Vec::new()),
        EpilogueKind::GeluSlope => (Vec::new(), t.f32(first)),
        EpilogueKind::Bias | EpilogueKind::BiasChannel => (t.f32(first), Vec::new()),
        EpilogueKind::BiasGelu | EpilogueKind::BiasResidual => (t.f32(first), t.f32(first + 1)),
    }
}

/// What happens to a product beside which rows are summed.
pub(super) fn added(t: &Twin<'_>) -> Option<EpilogueKind> {
    let added = if t.flag("ADDED") { EpilogueKind::Added } else { EpilogueKind::None };
    (t.epilogue() == EpilogueKind::RowSums).then_some(added)
}

/// One value with its epilogue, `before` in its place; `other` is the residual or the argument of GELU, or takes the value before GELU.
pub(super) fn finish(kind: EpilogueKind, sum: f64, bias: Option<f32>, other: Option<&mut f32>, before: f32) -> f32 {
    let x = sum + f64::from(bias.unwrap_or_default());
    match (kind, other) {
        (EpilogueKind::BiasGelu, Some(pre_activation)) => {
            *pre_activation = x as f32;
            gelu(x) as f32
        }
        (EpilogueKind::BiasResidual, Some(residual)) => (x + f64::from(*residual)) as f32,
        (EpilogueKind::GeluSlope, Some(pre_activation)) => (x * f64::from(gelu_slope(*pre_activation))) as f32,
        (EpilogueKind::Added, _) => (x + f64::from(before)) as f32,
        _ => x as f32,
    }
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x.powi(3))).tanh())
}
