//! Finding the text of an image and the image of a text by cosine similarity of their latents.

use crate::error::{Error, Result};

/// How well one modality finds the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Retrieval {
    /// k and recall@k: the share of queries with a hit among their first k candidates.
    pub recall: Vec<(usize, f64)>,
    /// k and the recall@k of random order, with the same duplicate captions.
    pub chance: Vec<(usize, f64)>,
    /// Mean reciprocal rank of the first hit.
    pub mrr: f64,
    /// Queries asked.
    pub queries: usize,
}

impl Retrieval {
    /// recall@k, when it was asked for.
    #[must_use]
    pub fn at(&self, k: usize) -> Option<f64> {
        self.recall.iter().find(|(asked, _)| *asked == k).map(|(_, recall)| *recall)
    }
}

/// Ranks all `candidates` for each of the `queries`, both `(n, width)` row-major with row i of each from sample i.
///
/// A hit is any candidate whose caption equals the query's, since nobody could tell them apart. The rank counts every
/// other candidate that is as similar as the best hit or more: ties go against the model, so that latents which have
/// all collapsed into one find nothing.
///
/// # Errors
/// [`Error::Shape`] when the sizes disagree or there is nothing to rank.
pub fn retrieve(
    queries: &[f32],
    candidates: &[f32],
    width: usize,
    captions: &[String],
    ks: &[usize],
) -> Result<Retrieval> {
    let n = captions.len();
    if n == 0 || width == 0 || queries.len() != n * width || candidates.len() != n * width {
        let got = format!("{} and {} values, width {width}", queries.len(), candidates.len());
        return Err(Error::shape("retrieve", format!("two times {n} rows, at least one"), got));
    }
    let (queries, candidates) = (normalised(queries, width), normalised(candidates, width));
    let mut ranks = Vec::with_capacity(n);
    let mut chance = vec![0.0; ks.len()];
    for (query, caption) in queries.chunks_exact(width).zip(captions) {
        let similarity = candidates.chunks_exact(width).map(|c| c.iter().zip(query).map(|(a, b)| a * b).sum::<f64>());
        let scored: Vec<_> = similarity.zip(captions).map(|(s, other)| (s, other == caption)).collect();
        ranks.push(rank(&scored));
        let hits = scored.iter().filter(|(_, hit)| *hit).count();
        for (sum, k) in chance.iter_mut().zip(ks) {
            *sum += chance_of_hit(n, hits, *k);
        }
    }
    let share = |k: usize| ranks.iter().filter(|rank| **rank <= k).count() as f64 / n as f64;
    Ok(Retrieval {
        recall: ks.iter().map(|k| (*k, share(*k))).collect(),
        chance: ks.iter().zip(chance).map(|(k, sum)| (*k, sum / n as f64)).collect(),
        mrr: ranks.iter().map(|rank| 1.0 / *rank as f64).sum::<f64>() / n as f64,
        queries: n,
    })
}

/// 1 + the candidates that stand before the best hit; what cannot be compared (NaN) stands before it too.
fn rank(scored: &[(f64, bool)]) -> usize {
    let best = scored.iter().filter(|(_, hit)| *hit).map(|(s, _)| *s).fold(f64::NEG_INFINITY, f64::max);
    1 + scored.iter().filter(|(s, hit)| !hit && (*s >= best || s.is_nan())).count()
}

/// Probability that k of n candidates drawn without replacement hold at least one of the hits.
fn chance_of_hit(n: usize, hits: usize, k: usize) -> f64 {
    let miss = |drawn: usize| n.saturating_sub(hits + drawn) as f64 / (n - drawn) as f64;
    1.0 - (0..k.min(n)).map(miss).product::<f64>()
}

/// Rows divided by their length, or by 1e-6 where they are shorter.
fn normalised(rows: &[f32], width: usize) -> Vec<f64> {
    let divided = |row: &[f32]| {
        let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
        let length = if length < 1e-6 { 1e-6 } else { length };
        row.iter().map(|v| f64::from(*v) / length).collect::<Vec<_>>()
    };
    rows.chunks_exact(width).flat_map(divided).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn captions(names: &[&str]) -> Vec<String> {
        names.iter().map(|s| (*s).to_owned()).collect()
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() < 1e-12
    }

    #[test]
    fn ranks_follow_cosines() {
        // Query 0 finds its own first; query 1 prefers candidate 0 (longer, but length must not count) only by angle;
        // query 2 points away from its own candidate.
        let queries = [1.0, 0.0, 0.9, 0.1, 0.0, 1.0];
        let candidates = [10.0, 0.0, 0.5, 0.5, 0.0, -1.0];
        let got = retrieve(&queries, &candidates, 2, &captions(&["a", "b", "c"]), &[1, 2, 3, 5]).unwrap();
        let recall = [(1, 1.0 / 3.0), (2, 2.0 / 3.0), (3, 1.0), (5, 1.0)];
        assert_eq!(got.recall, recall);
        assert!(close(got.mrr, (1.0 + 0.5 + 1.0 / 3.0) / 3.0), "{}", got.mrr);
        let chance: Vec<_> = got.chance.iter().map(|(_, c)| *c).collect();
        assert!(chance.iter().zip([1.0 / 3.0, 2.0 / 3.0, 1.0, 1.0]).all(|(a, b)| close(*a, b)), "{chance:?}");
        assert_eq!((got.at(2), got.at(4)), (Some(2.0 / 3.0), None));
    }

    #[test]
    fn equal_captions_are_all_hits() {
        // Sample 0 and 1 share a caption; each query is nearest to the other's candidate.
        let queries = [1.0, 0.0, 0.0, 1.0, -1.0, 0.0];
        let candidates = [0.0, 1.0, 1.0, 0.0, -1.0, 0.0];
        let got = retrieve(&queries, &candidates, 2, &captions(&["a", "a", "c"]), &[1]).unwrap();
        assert_eq!((got.recall[0].1, got.mrr), (1.0, 1.0));
        // Two of three candidates hit for two queries, one of three for the last.
        assert!(close(got.chance[0].1, (2.0 / 3.0 + 2.0 / 3.0 + 1.0 / 3.0) / 3.0), "{:?}", got.chance);
        let distinct = retrieve(&queries, &candidates, 2, &captions(&["a", "b", "c"]), &[1]).unwrap();
        assert!(close(distinct.recall[0].1, 1.0 / 3.0));
    }

    #[test]
    fn collapse_and_not_a_number_score_nothing() {
        let names = captions(&["a", "b", "c", "d"]);
        for (what, value) in [("equal", 1.0), ("zero", 0.0), ("NaN", f32::NAN)] {
            let rows = [value; 8];
            let got = retrieve(&rows, &rows, 2, &names, &[1, 3]).unwrap();
            assert_eq!((got.recall.clone(), got.mrr), (vec![(1, 0.0), (3, 0.0)], 0.25), "{what}");
        }
        let mut rows = [1.0, 0.0, 0.0, 1.0, -1.0, 0.0, 0.0, -1.0];
        assert_eq!(retrieve(&rows, &rows, 2, &names, &[1]).unwrap().mrr, 1.0);
        rows[0] = f32::NAN;
        let got = retrieve(&rows, &rows, 2, &names, &[1]).unwrap();
        assert_eq!(got.recall[0].1, 0.0, "a candidate that is NaN stands before every hit");
    }

    #[test]
    fn chance_is_the_hypergeometric_one() {
        let cases = [
            (4, 1, 1, 0.25),
            (4, 1, 4, 1.0),
            (4, 2, 2, 1.0 - 1.0 / 6.0),
            (4, 4, 1, 1.0),
            (10, 3, 8, 1.0),
            (4, 1, 0, 0.0),
        ];
        let failed: Vec<_> = cases
            .iter()
            .map(|(n, hits, k, want)| (n, hits, k, want, chance_of_hit(*n, *hits, *k)))
            .filter(|(_, _, _, want, got)| !close(**want, *got))
            .collect();
        assert!(failed.is_empty(), "{failed:?}");
    }

    #[test]
    fn wrong_sizes_are_errors() {
        let names = captions(&["a", "b"]);
        assert!(retrieve(&[1.0; 4], &[1.0; 2], 2, &names, &[1]).is_err());
        assert!(retrieve(&[], &[], 2, &[], &[1]).is_err());
        assert!(retrieve(&[], &[], 0, &names, &[1]).is_err());
    }
}
