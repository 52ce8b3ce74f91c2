//! The order of samples, as a pure function of the seed.
//!
//! A run walks an endless line of positions 0, 1, 2, …; position `p` of a data set with `n` samples is place `p % n` of
//! epoch `p / n`, and every epoch is its own permutation. Batch `k` of size B covers the positions `k B` to `k B + B - 1`:
//! the last batch of an epoch is filled from the next one, nothing is dropped, and no history is needed to resume.

use std::ops::Range;

/// The order of `n` samples under one seed.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    seed: u64,
    samples: usize,
}

/// A position of the line: which sample, in which epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// Full passes over the data set before this one.
    pub epoch: u64,
    /// The record's number in the data set.
    pub sample: usize,
}

impl Order {
    /// The order of `samples` (at least 1) under `seed`.
    pub fn new(seed: u64, samples: usize) -> Self {
        Self { seed, samples: samples.max(1) }
    }

    /// The permutation of one epoch: Fisher and Yates' shuffle over draws keyed by (seed, epoch, step).
    pub fn permutation(&self, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.samples).collect();
        for last in (1..order.len()).rev() {
            let other = below(hash(self.seed, [ORDER, epoch, last as u64]), last as u64 + 1);
            order.swap(last, other as usize);
        }
        order
    }

    /// The positions of batch `k` of size `size`.
    pub fn positions(&self, k: u64, size: usize) -> Range<u64> {
        let first = k.wrapping_mul(size as u64);
        first..first.wrapping_add(size as u64)
    }

    /// A walker that keeps the permutations it needs. Make one per thread.
    pub fn walk(&self) -> Walk {
        Walk { order: *self, kept: [None, None] }
    }
}

/// Looks positions up; holds the permutations of two neighbouring epochs.
#[derive(Clone, Debug)]
pub struct Walk {
    order: Order,
    kept: [Option<(u64, Vec<usize>)>; 2],
}

impl Walk {
    /// The sample at `position`.
    pub fn at(&mut self, position: u64) -> Place {
        let samples = self.order.samples as u64;
        let (epoch, index) = (position / samples, (position % samples) as usize);
        let [even, odd] = &mut self.kept;
        let slot = if epoch % 2 == 0 { even } else { odd };
        let permutation = match slot {
            Some((kept, permutation)) if *kept == epoch => permutation,
            _ => &slot.insert((epoch, self.order.permutation(epoch))).1,
        };
        // The index is below `samples`, the length of every permutation.
        Place { epoch, sample: permutation.get(index).copied().unwrap_or(0) }
    }
}

/// What a draw is for: the first word of its key, so that no two purposes share numbers.
pub(super) const ORDER: u64 = 1;
/// The choice among several captions.
pub(super) const CAPTION: u64 = 2;
/// Flips and crops.
pub(super) const AUGMENT: u64 = 3;

/// 64 random bits keyed by a seed and three words: the output function of SplitMix64 (Steele, Lea, Flood 2014) after each.
pub(super) fn hash(seed: u64, words: [u64; 3]) -> u64 {
    words.iter().fold(mix(seed), |state, &word| mix(state ^ word.wrapping_mul(0xd1b5_4a32_d192_ed03)))
}

/// A number below `limit` from 64 random bits, by multiplication (Lemire 2019); the bias is below `limit` / 2^64.
pub(super) fn below(bits: u64, limit: u64) -> u64 {
    ((u128::from(bits) * u128::from(limit)) >> 64) as u64
}

fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_generator_is_splitmix64() {
        // The first two outputs of the reference implementation with seed 1234567.
        assert_eq!(mix(1_234_567), 6_457_827_717_110_365_317);
        assert_eq!(mix(1_234_567_u64.wrapping_add(0x9e37_79b9_7f4a_7c15)), 3_203_168_211_198_807_973);
    }

    #[test]
    fn every_epoch_is_another_permutation() {
        for samples in [1, 2, 7, 64, 1009] {
            let order = Order::new(5, samples);
            let epochs: Vec<_> = (0..4).map(|epoch| order.permutation(epoch)).collect();
            for permutation in &epochs {
                let mut sorted = permutation.clone();
                sorted.sort_unstable();
                assert!(sorted.iter().copied().eq(0..samples), "{samples}");
            }
            if samples > 10 {
                assert!(epochs[0] != epochs[1] && epochs[1] != epochs[2], "{samples}");
                assert_ne!(epochs[0], Order::new(6, samples).permutation(0), "{samples}");
            }
        }
    }

    #[test]
    fn places_are_uniform() {
        // 6,000 shuffles of 3: each of the 6 orders 1,000 times, standard deviation 29.
        let mut counts = std::collections::HashMap::new();
        for epoch in 0..6000 {
            *counts.entry(Order::new(1, 3).permutation(epoch)).or_insert(0_i32) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|count| (count - 1000).abs() < 150), "{counts:?}");
    }

    #[test]
    fn batches_tile_the_line_and_any_of_them_can_be_taken_alone() {
        for (samples, size) in [(10, 4), (1, 3), (3, 7), (8, 8)] {
            let order = Order::new(9, samples);
            let mut walk = order.walk();
            let line: Vec<_> = (0..6).flat_map(|k| order.positions(k, size)).map(|p| walk.at(p)).collect();
            let mut alone = order.walk();
            for k in (0..6).rev() {
                let batch: Vec<_> = order.positions(k, size).map(|p| alone.at(p)).collect();
                assert_eq!(batch, line[k as usize * size..][..size], "{samples} {size} {k}");
            }
            for (epoch, pass) in line.chunks_exact(samples).enumerate() {
                assert!(pass.iter().map(|p| p.sample).eq(order.permutation(epoch as u64)), "{samples} {size} {epoch}");
            }
        }
    }
}
