//! Initial values, drawn on the host so that every device starts from the same bytes.

use std::thread;

use crate::device::fnv1a;
use crate::device::philox::{normal4, philox};

/// How a parameter begins.
#[derive(Clone, Debug, PartialEq)]
pub enum Init {
    /// Normal draws.
    Normal { mean: f32, std: f32 },
    /// One value everywhere.
    Constant(f32),
    /// Standard normal draws with row 0 (the padding token) zero: an embedding table.
    NormalRowZero,
    /// What another parameter of the same shape begins with.
    CopyOf(String),
}

/// Keeps initial draws apart from those of the training steps, which have the number of a stream in this word.
const INIT_STREAM: u32 = u32::from_le_bytes(*b"init");

impl Init {
    /// `count` values of rows of `width` for the parameter `name`. A draw depends on the seed, the name and its place in the
    /// parameter, on nothing else: adding a parameter changes no other one. `CopyOf` gives zeros; its source is drawn
    /// instead, by the caller.
    #[must_use]
    pub fn values(&self, seed: u64, name: &str, count: usize, width: usize) -> Vec<f32> {
        match self {
            Self::Constant(value) => vec![*value; count],
            Self::CopyOf(_) => vec![0.0; count],
            Self::Normal { mean, std } => {
                let mut values = normal(seed, name, count);
                values.iter_mut().for_each(|value| *value = mean + std * *value);
                values
            }
            Self::NormalRowZero => {
                let mut values = normal(seed, name, count);
                values.iter_mut().take(width).for_each(|value| *value = 0.0);
                values
            }
        }
    }
}

/// Values that one thread draws at least: about a millisecond's work.
const SHARE: usize = 1 << 16;

/// Standard normal draws keyed by seed and name. Each is a pure function of its place, so threads may share them.
fn normal(seed: u64, name: &str, count: usize) -> Vec<f32> {
    let hash = fnv1a(name.bytes());
    let key = [seed as u32, (seed >> 32) as u32];
    let draw = move |first: usize, part: &mut [f32]| {
        for (quad, values) in (first / 4..).zip(part.chunks_mut(4)) {
            let drawn = normal4(philox([quad as u32, INIT_STREAM, hash as u32, (hash >> 32) as u32], key));
            values.copy_from_slice(&drawn[..values.len()]);
        }
    };
    let mut values = vec![0.0; count];
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let share = count.div_ceil(threads).next_multiple_of(4).max(SHARE);
    if share >= count {
        draw(0, &mut values);
        return values;
    }
    thread::scope(|scope| {
        for (i, part) in values.chunks_mut(share).enumerate() {
            scope.spawn(move || draw(i * share, part));
        }
    });
    values
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_depend_on_seed_name_and_place_alone() {
        let init = Init::Normal { mean: 1.0, std: 0.02 };
        let values = init.values(7, "a.weight", 1003, 17);
        assert_eq!(values[..40], init.values(7, "a.weight", 40, 40), "a longer parameter begins alike");
        let long = init.values(7, "a.weight", 3 * SHARE + 5, 17);
        assert_eq!(values, long[..1003], "and so does one that threads share");
        assert_ne!(long[SHARE..SHARE + 8], long[..8], "every thread has its own places");
        assert_ne!(values, init.values(8, "a.weight", 1003, 17), "another seed");
        assert_ne!(values, init.values(7, "b.weight", 1003, 17), "another name");
        let mean = values.iter().sum::<f32>() / 1003.0;
        let deviation = (values.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / 1002.0).sqrt();
        assert!((mean - 1.0).abs() < 0.003 && (deviation - 0.02).abs() < 0.002, "{mean} {deviation}");
    }

    #[test]
    fn the_padding_row_is_zero() {
        let table = Init::NormalRowZero.values(1, "text.embed", 15, 5);
        assert!(table[..5].iter().all(|v| *v == 0.0) && table[5..].iter().all(|v| *v != 0.0), "{table:?}");
    }
}
