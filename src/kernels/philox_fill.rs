//! Tensors of random numbers.

use crate::device::philox::{normal4, philox, uniform4};
use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance};
use crate::shape::DType;
use crate::tensor::Tensor;

/// Invocations per workgroup, as in the shader.
const WORKGROUP: usize = 256;

/// `y = shift + scale * draw`.
pub static KERNEL: Kernel = Kernel {
    name: "philox_fill",
    source: include_str!("../../shaders/philox_fill.wgsl"),
    parts: &[Part::Grid, Part::Philox],
    bindings: &[Binding::u32("random"), Binding::f32_mut("y")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
    row_cells: u32,
    width: u32,
    stream: u32,
    stream_hi: u32,
    shift: f32,
    scale: f32,
}

/// What is drawn.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Distribution {
    /// Equally likely in `low..high`.
    Uniform { low: f32, high: f32 },
    /// Normal.
    Normal { mean: f32, deviation: f32 },
}

/// A new F32 tensor of random numbers. `random` is the U32 tensor `[seed_lo, seed_hi, step, ...]`; each number depends on
/// it, on `stream` and on its own place alone.
///
/// # Errors
/// `Error::Shape` when `random` is too short or `dims` is not a shape.
pub fn launch(
    ctx: &Context,
    dims: &[usize],
    random: &Tensor,
    stream: u64,
    distribution: Distribution,
) -> Result<Tensor> {
    if random.shape().elements() < 3 {
        return Err(Error::shape("philox_fill", "random (seed_lo, seed_hi, step)", random.shape()));
    }
    let (normal, shift, scale) = match distribution {
        Distribution::Uniform { low, high } => (0.0, low, high - low),
        Distribution::Normal { mean, deviation } => (1.0, mean, deviation),
    };
    let y = Tensor::empty(ctx, dims, DType::F32)?;
    let shape = y.shape();
    let cells = shape.stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[random, &y])
        .params(&Params {
            cells: cells as u32,
            row_cells: shape.cells() as u32,
            width: shape.last() as u32,
            stream: stream as u32,
            stream_hi: (stream >> 32) as u32,
            shift,
            scale,
        })
        .constant("NORMAL", normal)
        .groups(cells.div_ceil(WORKGROUP))
        .run(ctx)?;
    Ok(y)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let (random, draw) = (t.u32(0), if t.flag("NORMAL") { normal4 } else { uniform4 });
    let mut y = Vec::with_capacity(4 * p.cells as usize);
    for i in 0..p.cells {
        let bits = philox([i, p.stream, random[2], p.stream_hi], [random[0], random[1]]);
        let first = 4 * (i % p.row_cells);
        let columns = first..first + 4;
        y.extend(columns.zip(draw(bits)).map(|(c, v)| if c < p.width { p.shift + p.scale * v } else { 0.0 }));
    }
    t.put_f32(1, y);
    Ok(())
}

/// Shapes of the parity test. WGSL bounds the error of cos and sin by 2^-11 only, and the radius is below 6.
#[must_use]
pub fn cases() -> Vec<Case> {
    let uniform = (Distribution::Uniform { low: -1.0, high: 3.0 }, Tolerance::elementwise());
    let normal = (Distribution::Normal { mean: 0.5, deviation: 2.0 }, Tolerance { abs: 6e-3, rel: 1e-5 });
    [(vec![1], 0), (vec![3, 5], 1), (vec![2, 3, 4, 7], (7 << 32) + 3), (vec![257, 1023], 2)]
        .into_iter()
        .flat_map(|(dims, stream)| [(dims.clone(), stream, uniform), (dims, stream, normal)])
        .map(|(dims, stream, (distribution, tolerance))| {
            Case::new(format!("{dims:?} stream {stream} {distribution:?}"), tolerance, move |ctx, _| {
                let random = Tensor::from_u32(ctx, &[4], &[11, 12, 13, 0])?;
                Ok(vec![launch(ctx, &dims, &random, stream, distribution)?])
            })
        })
        .collect()
}

/// Mistakes the parity test must find.
pub const FAULTS: &[Fault] = &[
    Fault { find: "draw = normal4(bits);", replace: "draw = 2.0 * uniform4(bits) - 1.0;" },
    Fault { find: "p.stream, random[2]", replace: "p.stream, 0u" },
    Fault { find: "column < vec4<u32>(p.width)", replace: "column <= vec4<u32>(p.width)" },
];
