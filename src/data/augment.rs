//! Random flips and crops of the fitted image, off by default.

use fast_image_resize::ResizeOptions;

use super::decode::resize;
use super::order::{AUGMENT, hash};
use crate::error::{Error, Result};

/// What may be done to an image. What is done is a pure function of (seed, epoch, sample).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Augment {
    /// Mirror left and right in half of the cases. Wrong for text and for "left of" captions.
    pub flip: bool,
    /// Cut a square whose area is a uniform share of the image between these two (0 < low <= high <= 1), at a uniform
    /// place, and scale it back. `None`: no crop.
    pub crop: Option<(f32, f32)>,
}

/// The choice for one sample in one epoch, as shares of the side.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Choice {
    flip: bool,
    left: f64,
    top: f64,
    side: f64,
}

impl Augment {
    /// Whether anything is done at all.
    pub fn is_off(&self) -> bool {
        !self.flip && self.crop.is_none()
    }

    /// Refuse a range that is not a range of shares.
    ///
    /// # Errors
    /// A configuration error that names the field.
    pub fn check(&self) -> Result<()> {
        match self.crop {
            Some((low, high)) if !(low > 0.0 && low <= high && high <= 1.0) => Err(Error::config(
                "data.crop",
                format_args!("({low}, {high}) is not a range of shares: 0 < low <= high <= 1"),
            )),
            _ => Ok(()),
        }
    }

    /// Apply the choice for (seed, epoch, sample) to (S, S, 3) bytes.
    ///
    /// # Errors
    /// The reason in words, when the pixels are not `side` x `side`.
    pub fn apply(&self, pixels: &[u8], side: usize, seed: u64, epoch: u64, sample: usize) -> Result<Vec<u8>, String> {
        let choice = self.choose(seed, epoch, sample);
        let mut out = if choice.side < 1.0 {
            let (size, width) = (side as f64, u32::try_from(side).map_err(|e| e.to_string())?);
            let crop = ResizeOptions::new().crop(
                choice.left * size,
                choice.top * size,
                choice.side * size,
                choice.side * size,
            );
            resize(pixels, width, width, side, &crop)?
        } else {
            pixels.to_vec()
        };
        if choice.flip {
            for row in out.chunks_mut((3 * side).max(1)) {
                // Reversing the bytes mirrors the pixels and swaps their channels; the second pass swaps those back.
                row.reverse();
                row.chunks_mut(3).for_each(<[u8]>::reverse);
            }
        }
        Ok(out)
    }

    fn choose(&self, seed: u64, epoch: u64, sample: usize) -> Choice {
        let key = hash(seed, [AUGMENT, epoch, sample as u64]);
        let draw = |number: u64| (hash(key, [AUGMENT, number, 0]) >> 11) as f64 / (1_u64 << 53) as f64;
        let side = self.crop.map_or(1.0, |(low, high)| {
            let (low, high) = (f64::from(low), f64::from(high));
            (low + (high - low) * draw(1)).sqrt()
        });
        Choice { flip: self.flip && draw(0) < 0.5, left: draw(2) * (1.0 - side), top: draw(3) * (1.0 - side), side }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ramp(side: usize) -> Vec<u8> {
        (0..side * side * 3).map(|i| (i % 251) as u8).collect()
    }

    #[test]
    fn off_changes_nothing() {
        let (off, pixels) = (Augment::default(), ramp(5));
        assert!(off.is_off());
        assert_eq!(off.apply(&pixels, 5, 1, 2, 3).unwrap(), pixels);
    }

    #[test]
    fn a_flip_mirrors_rows_and_keeps_channels() {
        let flip = Augment { flip: true, crop: None };
        let pixels = ramp(4);
        let mirrored: Vec<u8> = pixels.chunks(12).flat_map(|row| row.chunks(3).rev().flatten().copied()).collect();
        let outcomes: Vec<_> = (0..200).map(|sample| flip.apply(&pixels, 4, 7, 0, sample).unwrap()).collect();
        let flipped = outcomes.iter().filter(|&out| *out == mirrored).count();
        assert!(outcomes.iter().all(|out| *out == mirrored || *out == pixels));
        assert!((60..140).contains(&flipped), "{flipped} of 200");
    }

    #[test]
    fn choices_depend_on_the_key_alone_and_stay_inside() {
        let augment = Augment { flip: true, crop: Some((0.3, 0.9)) };
        let (mut low, mut high) = (1.0_f64, 0.0_f64);
        for sample in 0..500 {
            let choice = augment.choose(1, 2, sample);
            assert_eq!(choice, augment.choose(1, 2, sample));
            assert_ne!(choice, augment.choose(1, 3, sample));
            assert_ne!(choice, augment.choose(2, 2, sample));
            assert!(
                choice.left >= 0.0 && choice.left + choice.side <= 1.0 && choice.top + choice.side <= 1.0,
                "{choice:?}"
            );
            (low, high) = (low.min(choice.side.powi(2)), high.max(choice.side.powi(2)));
        }
        assert!((0.3..0.32).contains(&low) && (0.88..=0.9).contains(&high), "{low} {high}");
        let out = augment.apply(&ramp(8), 8, 1, 2, 3).unwrap();
        assert_eq!(out.len(), 8 * 8 * 3);
        assert_ne!(out, ramp(8));
    }

    #[test]
    fn a_range_that_is_none_is_refused() {
        for (low, high, good) in [
            (0.5, 1.0, true),
            (1.0, 1.0, true),
            (0.0, 1.0, false),
            (0.9, 0.5, false),
            (0.5, 1.1, false),
            (f32::NAN, 1.0, false),
        ] {
            assert_eq!(Augment { flip: false, crop: Some((low, high)) }.check().is_ok(), good, "{low} {high}");
        }
    }
}
