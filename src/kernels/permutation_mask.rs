//! A random subset of exactly K of N tokens for every sample.

use crate::device::philox::philox;
use crate::device::{Binding, Context, Kernel, Launch, Part, Twin};
use crate::error::{Error, Result};
use crate::kernels::{Case, Fault, Tolerance};
use crate::shape::DType;
use crate::tensor::Tensor;

/// Tokens whose keys fit the workgroup memory that every device has.
pub const MAX_TOKENS: usize = 4096;

/// `y[b,n] = 1` where token n is among the first K of a random permutation, else 0.
pub static KERNEL: Kernel = Kernel {
    name: "permutation_mask",
    source: include_str!("../../shaders/permutation_mask.wgsl"),
    parts: &[Part::Grid, Part::Philox],
    bindings: &[Binding::u32("random"), Binding::f32_mut("y")],
    epilogues: false,
    twin,
};

#[repr(C)]
#[derive(Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
struct Params {
    rows: u32,
    row_cells: u32,
    width: u32,
    masked: u32,
    stream: u32,
    stream_hi: u32,
}

/// A mask `(samples, tokens)` in F32 with exactly `masked` ones in every row. `random` is the U32 tensor
/// `[seed_lo, seed_hi, step, ...]`; a row depends on it, on `stream` and on its own number alone.
///
/// # Errors
/// `Error::Limit` for more than [`MAX_TOKENS`] tokens; `Error::Shape` when `random` is too short or more tokens are to be
/// masked than there are.
pub fn launch(
    ctx: &Context,
    [samples, tokens]: [usize; 2],
    masked: usize,
    random: &Tensor,
    stream: u64,
) -> Result<Tensor> {
    if tokens > MAX_TOKENS {
        return Err(Error::Limit {
            what: "tokens of one sample in a random mask".into(),
            needed: tokens as u64,
            available: MAX_TOKENS as u64,
            advice: "use a larger patch or a smaller image",
        });
    }
    if random.shape().elements() < 3 {
        return Err(Error::shape("permutation_mask", "random (seed_lo, seed_hi, step)", random.shape()));
    }
    if masked > tokens {
        return Err(Error::shape("permutation_mask", format!("at most {tokens} masked tokens"), masked));
    }
    let y = Tensor::empty(ctx, &[samples, tokens], DType::F32)?;
    Launch::new(&KERNEL)
        .tensors(&[random, &y])
        .params(&Params {
            rows: samples as u32,
            row_cells: y.shape().cells() as u32,
            width: tokens as u32,
            masked: masked as u32,
            stream: stream as u32,
            stream_hi: (stream >> 32) as u32,
        })
        .groups(samples)
        .flops((samples * tokens * tokens) as f64)
        .run(ctx)?;
    Ok(y)
}

fn twin(t: &mut Twin<'_>) -> Result<()> {
    let p: Params = t.params();
    let random = t.u32(0);
    let (stride, width) = (4 * p.row_cells as usize, p.width as usize);
    let mut y = vec![0.0; p.rows as usize * stride];
    for (b, row) in y.chunks_mut(stride).enumerate() {
        let first = b as u32 * p.row_cells;
        let draws = (first..first + p.row_cells)
            .flat_map(|cell| philox([cell, p.stream, random[2], p.stream_hi], [random[0], random[1]]));
        let mut order: Vec<(u32, usize)> = draws.zip(0..width).collect();
        order.sort_unstable();
        for &(_, n) in &order[..p.masked as usize] {
            row[n] = 1.0;
        }
    }
    t.put_f32(1, y);
    Ok(())
}

/// Shapes of the parity test: B, N, K.
#[must_use]
pub fn cases() -> Vec<Case> {
    [
        (1, 1, 0),
        (1, 1, 1),
        (3, 5, 2),
        (2, 7, 7),
        (4, 196, 98),
        (2, 257, 0),
        (2, 259, 100),
        (1, MAX_TOKENS, 1000),
        (65_537, 3, 1),
    ]
    .into_iter()
    .map(|(b, n, k)| {
        Case::new(format!("B {b} N {n} K {k}"), Tolerance::exact(), move |ctx, _| {
            let random = Tensor::from_u32(ctx, &[4], &[11, 12, 13, 0])?;
            Ok(vec![launch(ctx, [b, n], k, &random, (7 << 32) + 3)?])
        })
    })
    .collect()
}

/// Mistakes the parity test must find.
pub const FAULTS: &[Fault] = &[
    Fault { find: "rank < vec4<u32>(p.masked)", replace: "rank <= vec4<u32>(p.masked)" },
    Fault { find: "row * p.row_cells + c, p.stream", replace: "c, p.stream" },
    Fault { find: "n < p.width; n += 1u", replace: "n < 4u * p.row_cells; n += 1u" },
    Fault { find: "& (token < vec4<u32>(p.width))", replace: "& (token <= vec4<u32>(p.width))" },
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Exactly K ones per row, and every token chosen equally often, within five standard deviations.
    #[test]
    fn subsets_are_exact_and_fair() {
        let ctx = Context::cpu();
        let random = Tensor::from_u32(&ctx, &[4], &[1, 2, 3, 0]).unwrap();
        let (rows, tokens) = (2000, 13);
        let mut failed = Vec::new();
        for masked in [0, 1, 6, 12, 13] {
            let mask = launch(&ctx, [rows, tokens], masked, &random, 4).unwrap().to_f32().unwrap();
            let ones = |row: &[f32]| row.iter().filter(|v| **v == 1.0).count();
            failed
                .extend(mask.chunks(tokens).map(ones).filter(|n| *n != masked).map(|n| format!("{masked}: {n} ones")));
            let p = masked as f64 / tokens as f64;
            let limit = 5.0 * (rows as f64 * p * (1.0 - p)).sqrt();
            for token in 0..tokens {
                let chosen: f32 = mask.iter().skip(token).step_by(tokens).sum();
                if (f64::from(chosen) - rows as f64 * p).abs() > limit {
                    failed.push(format!("{masked}: token {token} chosen {chosen} times of {rows}"));
                }
            }
        }
        assert!(failed.is_empty(), "{failed:?}");
    }

    /// Another seed, step, stream or row gives another subset.
    #[test]
    fn every_part_of_the_key_counts() {
        let ctx = Context::cpu();
        let draw = |random: [u32; 4], stream| {
            let random = Tensor::from_u32(&ctx, &[4], &random).unwrap();
            launch(&ctx, [2, 64], 32, &random, stream).unwrap().to_f32().unwrap()
        };
        let first = draw([1, 2, 3, 0], 4);
        assert_eq!(first, draw([1, 2, 3, 0], 4), "the same key");
        assert_ne!(first[..64], first[64..], "two rows");
        let others =
            [([9, 2, 3, 0], 4), ([1, 9, 3, 0], 4), ([1, 2, 9, 0], 4), ([1, 2, 3, 0], 9), ([1, 2, 3, 0], 4 | 1 << 32)];
        let same: Vec<_> = others.into_iter().filter(|(random, stream)| draw(*random, *stream) == first).collect();
        assert!(same.is_empty(), "{same:?}");
    }

    #[test]
    fn refusals() {
        let ctx = Context::cpu();
        let random = Tensor::from_u32(&ctx, &[4], &[0; 4]).unwrap();
        let short = Tensor::from_u32(&ctx, &[2], &[0; 2]).unwrap();
        assert!(matches!(launch(&ctx, [1, MAX_TOKENS + 1], 1, &random, 0), Err(Error::Limit { .. })));
        assert!(matches!(launch(&ctx, [1, 3], 4, &random, 0), Err(Error::Shape { .. })));
        assert!(matches!(launch(&ctx, [1, 3], 1, &short, 0), Err(Error::Shape { .. })));
    }
}
