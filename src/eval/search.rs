//! Exact search by cosine over encoded samples, on the device.

use crate::device::{Context, Epilogue};
use crate::error::{Error, Result};
use crate::kernels::{matmul, top_k};
use crate::shape::DType;
use crate::tensor::Tensor;

/// The most hits of one query.
pub const MOST_HITS: usize = top_k::MOST;
/// Bytes of candidates on the device at once, where the device would allow more.
const COMFORTABLE: u64 = 256 << 20;

/// A candidate found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Hit {
    /// Its row among the candidates.
    pub index: usize,
    /// Its product with the query: the cosine, for unit rows.
    pub score: f32,
}

/// The `k` best of the `candidates` (C, Z) for each of the `queries` (Q, Z), row-major: largest product first, the lower
/// row first among equals. Every candidate is looked at; rows that hold NaN are never found. With fewer than k candidates
/// all are returned.
///
/// # Errors
/// `Error::Shape` for rows that do not fit `width`, `Error::Config` for k of 0 or above [`MOST_HITS`], or what the device
/// reports.
pub fn search(ctx: &Context, queries: &[f32], candidates: &[f32], width: usize, k: usize) -> Result<Vec<Vec<Hit>>> {
    let row = width.next_multiple_of(4).max(4) as u64 * 4;
    let most = COMFORTABLE.min(ctx.capabilities().max_binding) / row;
    search_in_chunks(ctx, queries, candidates, width, k, usize::try_from(most).unwrap_or(usize::MAX))
}

/// As [`search`], with `most` candidates on the device at once.
fn search_in_chunks(
    ctx: &Context,
    queries: &[f32],
    candidates: &[f32],
    width: usize,
    k: usize,
    most: usize,
) -> Result<Vec<Vec<Hit>>> {
    if width == 0 || !queries.len().is_multiple_of(width) || !candidates.len().is_multiple_of(width) {
        let got = format!("{} and {} values", queries.len(), candidates.len());
        return Err(Error::shape("search", format!("rows of {width}"), got));
    }
    if !(1..=MOST_HITS).contains(&k) {
        return Err(Error::config("-k", format!("{k} is not between 1 and {MOST_HITS}")));
    }
    let asked = queries.len() / width;
    let mut best: Vec<Vec<Hit>> = vec![Vec::new(); asked];
    if asked == 0 || candidates.is_empty() {
        return Ok(best);
    }
    let questions = Tensor::from_f32(ctx, &[asked, width], queries, DType::F32)?;
    // A row of scores has at most 2^24 columns, and Q rows of scores must be bound too.
    let most = most.min(1 << 24).min(usize::try_from(ctx.capabilities().max_binding).unwrap_or(usize::MAX) / 4 / asked);
    for (number, chunk) in candidates.chunks(most.max(1) * width).enumerate() {
        let first = number * most.max(1);
        for (hits, more) in best.iter_mut().zip(chunk_hits(ctx, &questions, chunk, width, k)?) {
            hits.extend(more.into_iter().map(|hit| Hit { index: hit.index + first, ..hit }));
            // Each list holds the k best of all before it, so the k best of both are the k best so far.
            hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.index.cmp(&b.index)));
            hits.truncate(k);
        }
    }
    Ok(best)
}

fn chunk_hits(ctx: &Context, questions: &Tensor, chunk: &[f32], width: usize, k: usize) -> Result<Vec<Vec<Hit>>> {
    let rows = chunk.len() / width;
    let candidates = Tensor::from_f32(ctx, &[rows, width], chunk, DType::F32)?;
    let form = matmul::Matmul { trans_b: true, ..Default::default() };
    let scores = matmul::launch(ctx, &form, questions, &candidates, DType::F32, Epilogue::None)?; // (Q, rows)
    let k = k.min(rows);
    let (indices, values) = top_k::launch(ctx, &scores, k, 0)?;
    let (indices, values) = (indices.to_u32()?, values.to_f32()?);
    let hits = |(indices, values): (&[u32], &[f32])| {
        let pairs = indices.iter().zip(values).filter(|(index, _)| (**index as usize) < rows);
        pairs.map(|(index, score)| Hit { index: *index as usize, score: *score }).collect()
    };
    Ok(indices.chunks(k).zip(values.chunks(k)).map(hits).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::philox::{normal4, philox};

    fn rows(count: usize, width: usize, seed: u32) -> Vec<f32> {
        let values = (0..(count * width).div_ceil(4) as u32).flat_map(|i| normal4(philox([i, 0, 0, 0], [seed, 0])));
        values.take(count * width).collect()
    }

    /// Whatever the chunks, the answer is that of sorting all products.
    #[test]
    fn chunks_change_nothing() {
        let ctx = Context::cpu();
        let mut wrong = Vec::new();
        for (asked, count, width, k) in [(1, 1, 1, 1), (2, 7, 5, 3), (3, 64, 8, 10), (1, 101, 33, 64)] {
            let (queries, mut candidates) = (rows(asked, width, 1), rows(count, width, 2));
            if count > 8 {
                // Equal rows in different chunks, and one that cannot be compared.
                candidates.copy_within(0..width, (count - 1) * width);
                candidates[3 * width] = f32::NAN;
            }
            let want = search_in_chunks(&ctx, &queries, &candidates, width, k, usize::MAX).unwrap();
            for (query, hits) in queries.chunks(width).zip(&want) {
                let product = |row: &[f32]| row.iter().zip(query).map(|(a, b)| f64::from(a * b)).sum::<f64>();
                let mut sorted: Vec<f64> = candidates.chunks(width).map(product).filter(|s| !s.is_nan()).collect();
                sorted.sort_by(|a, b| b.total_cmp(a));
                let off = hits.iter().zip(&sorted).map(|(hit, s)| (f64::from(hit.score) - s).abs()).fold(0.0, f64::max);
                if hits.len() != k.min(sorted.len()) || off > 1e-4 {
                    wrong.push(format!("{count}x{width}: {} hits, off by {off}", hits.len()));
                }
            }
            for most in [1, 2, 13, 64] {
                let got = search_in_chunks(&ctx, &queries, &candidates, width, k, most).unwrap();
                if got != want {
                    wrong.push(format!("{count}x{width}, k {k}, chunks of {most}: {got:?} instead of {want:?}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{wrong:#?}");
    }

    #[test]
    fn bad_requests_are_refused_and_nothing_finds_nothing() {
        let ctx = Context::cpu();
        assert!(search(&ctx, &[1.0; 3], &[1.0; 4], 2, 1).is_err());
        assert!(search(&ctx, &[1.0; 2], &[1.0; 4], 0, 1).is_err());
        assert!(search(&ctx, &[1.0; 2], &[1.0; 4], 2, 0).is_err());
        assert!(search(&ctx, &[1.0; 2], &[1.0; 4], 2, MOST_HITS + 1).is_err());
        assert_eq!(search(&ctx, &[1.0; 2], &[], 2, 5).unwrap(), [Vec::new()]);
    }
}
