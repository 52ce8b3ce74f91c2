//! The raw words of the random generator.

use crate::device::philox::philox;
use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance};
use crate::shape::DType;
use crate::tensor::Tensor;

/// Invocations per workgroup, as in the shader.
const WORKGROUP: usize = 256;

/// Cell i is Philox4x32-10 of the counter `(start + i, stream, step, stream_hi)`.
pub static KERNEL: Kernel = Kernel {
    name: "philox_bits",
    source: include_str!("../../shaders/philox_bits.wgsl"),
    parts: &[Part::Grid, Part::Philox],
    bindings: &[Binding::u32("random"), Binding::u32_mut("y")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    cells: u32,
    row_cells: u32,
    width: u32,
    start: u32,
    stream: u32,
    stream_hi: u32,
}

/// A new U32 tensor of random words. `random` is the U32 tensor `[seed_lo, seed_hi, step, ...]`; the counters begin at
/// `start` (modulo 2^32) and go up by one for every four words, rows padded to a multiple of four.
///
/// # Errors
/// `Error::Shape` when `random` is too short or `dims` is not a shape.
pub fn launch(ctx: &Context, dims: &[usize], random: &Tensor, start: u32, stream: u64) -> Result<Tensor> {
    if random.shape().elements() < 3 {
        return Err(Error::shape("philox_bits", "random (seed_lo, seed_hi, step)", random.shape()));
    }
    let y = Tensor::empty(ctx, dims, DType::U32)?;
    let shape = y.shape();
    let cells = shape.stored() / 4;
    Launch::new(&KERNEL)
        .tensors(&[random, &y])
        .params(&Params {
            cells: cells as u32,
            row_cells: shape.cells() as u32,
            width: shape.last() as u32,
            start,
            stream: stream as u32,
            stream_hi: (stream >> 32) as u32,
        })
        .groups(cells.div_ceil(WORKGROUP))
        .run(ctx)?;
    Ok(y)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let random = t.u32(0);
    let mut y = Vec::with_capacity(4 * p.cells as usize);
    for i in 0..p.cells {
        let bits = philox([p.start.wrapping_add(i), p.stream, random[2], p.stream_hi], [random[0], random[1]]);
        let first = 4 * (i % p.row_cells);
        y.extend((first..first + 4).zip(bits).map(|(c, word)| if c < p.width { word } else { 0 }));
    }
    t.put_u32(1, &y);
    Ok(())
}

/// Counters and keys of the published known answers, which the twin is held against, then many and awkward ones.
#[must_use]
pub fn cases() -> Vec<Case> {
    [
        (vec![4], [0, 0, 0], 0, 0),
        (vec![4], [u32::MAX; 3], u32::MAX, u64::MAX),
        (vec![4], [0xa409_3822, 0x299f_31d0, 0x1319_8a2e], 0x243f_6a88, 0x0370_7344_85a3_08d3),
        (vec![1], [1, 2, 3], 5, 6),
        (vec![3, 5], [1, 2, 3], u32::MAX - 1, 6),
        (vec![257, 1023], [3, 2, 1], 0, (7 << 32) + 3),
    ]
    .into_iter()
    .map(|(dims, [seed_lo, seed_hi, step], start, stream)| {
        let name = format!("{dims:?} seed {seed_hi:x}{seed_lo:08x} step {step} from {start} stream {stream:x}");
        Case::new(name, Tolerance::exact(), move |ctx, _| {
            let random = Tensor::from_u32(ctx, &[4], &[seed_lo, seed_hi, step, 0])?;
            Ok(vec![launch(ctx, &dims, &random, start, stream)?])
        })
    })
    .collect()
}

/// Mistakes the parity test must find.
pub const FAULTS: &[Fault] = &[
    Fault { find: "p.start + i", replace: "i" },
    Fault { find: "random[2], p.stream_hi", replace: "random[2], 0u" },
    Fault { find: "column < vec4<u32>(p.width)", replace: "column <= vec4<u32>(p.width)" },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The first three cases are the known answers published with Random123: they must come out of the launch, too.
    #[test]
    fn published_answers() {
        let ctx = Context::cpu();
        let answers = [
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8],
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd],
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
        ];
        let mut failed = Vec::new();
        for (case, want) in cases().iter().zip(answers) {
            let got = (case.run)(&ctx, DType::F32).unwrap()[0].to_u32().unwrap();
            if got != want {
                failed.push(format!("{}: {got:x?}, published {want:x?}", case.label));
            }
        }
        assert!(failed.is_empty(), "{}", failed.join("\n"));
    }
}
