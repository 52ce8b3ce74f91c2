//! Dropout whose mask is drawn again, not stored.

use crate::device::philox::{philox, uniform4};
use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance, samples};
use crate::tensor::Tensor;

/// Invocations per workgroup, as in the shader.
const WORKGROUP: usize = 256;

/// `y = x / (1 - rate)` with probability `1 - rate`, else 0.
pub static KERNEL: Kernel = Kernel {
    name: "dropout",
    source: include_str!("../../shaders/dropout.wgsl"),
    parts: &[Part::Grid, Part::Philox],
    bindings: &[Binding::stored("x"), Binding::u32("random"), Binding::stored_mut("y")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
    stream: u32,
    stream_hi: u32,
    rate: f32,
}

/// `x` with each element dropped with probability `rate` and the others divided by `1 - rate` (Srivastava et al., 2014,
/// inverted form). `random` is the U32 tensor `[seed_lo, seed_hi, step, ...]`; the draw depends on it, on `stream` and on
/// the place of the element alone. The gradient is the same call on the gradient of the result.
///
/// # Errors
/// `Error::Config` unless `0 <= rate < 1`; `Error::Shape` when `random` is too short.
pub fn launch(ctx: &Context, x: &Tensor, random: &Tensor, stream: u64, rate: f32) -> Result<Tensor> {
    if !(0.0..1.0).contains(&rate) {
        return Err(Error::config("dropout", format!("must be at least 0 and less than 1, not {rate}")));
    }
    if random.shape().elements() < 3 {
        return Err(Error::shape("dropout", "random (seed_lo, seed_hi, step)", random.shape()));
    }
    let y = Tensor::empty(ctx, x.dims(), x.dtype())?;
    let cells = x.shape().stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[x, random, &y])
        .params(&Params { cells: cells as u32, stream: stream as u32, stream_hi: (stream >> 32) as u32, rate })
        .groups(cells.div_ceil(WORKGROUP))
        .flops(x.shape().elements() as f64)
        .run(ctx)?;
    Ok(y)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (mut y, random) = (t.f32(0), t.u32(1));
    for (i, cell) in y.chunks_mut(4).enumerate() {
        let bits = philox([i as u32, p.stream, random[2], p.stream_hi], [random[0], random[1]]);
        for (v, u) in cell.iter_mut().zip(uniform4(bits)) {
            *v = if u < p.rate { 0.0 } else { *v / (1.0 - p.rate) };
        }
    }
    t.put_f32(2, y);
    Ok(())
}

/// Shapes of the parity test.
#[must_use]
pub fn cases() -> Vec<Case> {
    [(vec![1], 0.5, 0), (vec![3, 5], 0.0, 1), (vec![2, 3, 4, 7], 0.9, 2), (vec![257, 1023], 0.1, (7 << 32) + 3)]
        .into_iter()
        .map(|(dims, rate, stream)| {
            let name = format!("{dims:?} rate {rate} stream {stream}");
            Case::new(name, Tolerance::elementwise(), move |ctx, storage| {
                let x = samples::normal(ctx, &dims, storage, 1)?;
                let random = Tensor::from_u32(ctx, &[4], &[11, 12, 13, 0])?;
                Ok(vec![launch(ctx, &x, &random, stream, rate)?])
            })
        })
        .collect()
}

/// Mistakes the parity test must find.
pub const FAULTS: &[Fault] = &[
    Fault { find: " / (1.0 - p.rate)", replace: "" },
    Fault { find: "random[2], p.stream_hi", replace: "random[2], 0u" },
    Fault { find: "vec2<u32>(random[0], random[1])", replace: "vec2<u32>(random[1], random[0])" },
    Fault { find: ">= vec4<f32>(p.rate)", replace: "< vec4<f32>(p.rate)" },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates() {
        let ctx = Context::cpu();
        let random = Tensor::from_u32(&ctx, &[4], &[1, 2, 3, 0]).unwrap();
        let ones = Tensor::from_f32(&ctx, &[40_000], &[1.0; 40_000], crate::shape::DType::F32).unwrap();
        let mut failed = Vec::new();
        for rate in [0.0_f32, 0.1, 0.5, 0.9] {
            let y = launch(&ctx, &ones, &random, 5, rate).unwrap().to_f32().unwrap();
            let dropped = y.iter().filter(|v| **v == 0.0).count() as f32 / y.len() as f32;
            // Five standard deviations of the share that is dropped.
            if (dropped - rate).abs() > 5.0 * (rate * (1.0 - rate) / y.len() as f32).sqrt() {
                failed.push(format!("rate {rate}: {dropped} dropped"));
            }
        }
        for rate in [1.0, -0.1, f32::NAN] {
            if !matches!(launch(&ctx, &ones, &random, 5, rate), Err(Error::Config { .. })) {
                failed.push(format!("rate {rate} accepted"));
            }
        }
        assert!(failed.is_empty(), "{failed:?}");
    }
}
