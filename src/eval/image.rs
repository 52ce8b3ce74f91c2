//! How close two images are: PSNR and SSIM. Images are `(C, H, W)`, row-major, with values in [0, 1].

use crate::error::{Error, Result};

/// Side of the SSIM window.
const WINDOW: usize = 11;
/// Standard deviation of its Gaussian weights, in pixels.
const SIGMA: f64 = 1.5;
/// (K1 L)^2 and (K2 L)^2 with K1 = 0.01, K2 = 0.03 and the data range L = 1.
const C1: f64 = 0.01 * 0.01;
const C2: f64 = 0.03 * 0.03;
/// PSNR of two equal images, in place of infinity, so that means stay finite. 16-bit images reach about 96 dB.
pub const HIGHEST_PSNR: f64 = 100.0;

/// Mean squared error.
///
/// # Errors
/// [`Error::Shape`] when the lengths differ or are 0.
pub fn mse(a: &[f32], b: &[f32]) -> Result<f64> {
    if a.len() != b.len() || a.is_empty() {
        let got = format!("{} and {} values", a.len(), b.len());
        return Err(Error::shape("mse", "two images of equal size, not empty", got));
    }
    let sum: f64 = a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2)).sum();
    Ok(sum / a.len() as f64)
}

/// Peak signal-to-noise ratio in decibels, `10 log10(1 / mse)`, at most [`HIGHEST_PSNR`].
///
/// # Errors
/// As [`mse`].
pub fn psnr(a: &[f32], b: &[f32]) -> Result<f64> {
    // `f64::min` would turn NaN into a perfect score.
    let decibels = -10.0 * mse(a, b)?.log10();
    Ok(if decibels > HIGHEST_PSNR { HIGHEST_PSNR } else { decibels })
}

/// Structural similarity (Wang et al. 2004), the mean over channels and over all places where the 11 x 11 Gaussian window
/// lies inside the image; population covariance. Equals scikit-image's `structural_similarity` with `gaussian_weights`,
/// `sigma=1.5`, `use_sample_covariance=False`, `data_range=1`.
///
/// # Errors
/// [`Error::Shape`] when lengths and shape disagree or a side is shorter than the window.
pub fn ssim(a: &[f32], b: &[f32], shape: [usize; 3]) -> Result<f64> {
    let [channels, height, width] = shape;
    let plane = height.saturating_mul(width);
    let fits = channels > 0 && a.len() == channels.saturating_mul(plane) && b.len() == a.len();
    if !fits || height < WINDOW || width < WINDOW {
        let got = format!("{shape:?}, {} and {} values", a.len(), b.len());
        return Err(Error::shape("ssim", format!("two (C, H, W) images with sides of at least {WINDOW}"), got));
    }
    let planes = a.chunks_exact(plane).zip(b.chunks_exact(plane));
    let total: f64 = planes.map(|(a, b)| plane_ssim(a, b, width)).sum();
    Ok(total / channels as f64)
}

fn plane_ssim(a: &[f32], b: &[f32], width: usize) -> f64 {
    let blurred = |value: &dyn Fn(f64, f64) -> f64| {
        let image: Vec<f64> = a.iter().zip(b).map(|(x, y)| value(f64::from(*x), f64::from(*y))).collect();
        blur(&image, width)
    };
    let (mean_a, mean_b) = (blurred(&|x, _| x), blurred(&|_, y| y));
    let (square_a, square_b, product) = (blurred(&|x, _| x * x), blurred(&|_, y| y * y), blurred(&|x, y| x * y));
    let mut sum = 0.0;
    for ((((ma, mb), aa), bb), ab) in mean_a.iter().zip(&mean_b).zip(&square_a).zip(&square_b).zip(&product) {
        let covariance = ab - ma * mb;
        let variances = (aa - ma * ma) + (bb - mb * mb);
        let similar = (2.0 * ma * mb + C1) * (2.0 * covariance + C2);
        sum += similar / ((ma * ma + mb * mb + C1) * (variances + C2));
    }
    sum / mean_a.len() as f64
}

/// Gaussian-weighted means at every place where the window lies inside: rows first, then columns.
fn blur(image: &[f64], width: usize) -> Vec<f64> {
    let weights = gaussian();
    let inside = width - WINDOW + 1;
    let weighted = |window: &[f64]| window.iter().zip(&weights).map(|(v, w)| v * w).sum::<f64>();
    let rows: Vec<f64> = image.chunks_exact(width).flat_map(|row| row.windows(WINDOW).map(weighted)).collect();
    let places = rows.len().saturating_sub((WINDOW - 1) * inside);
    (0..places).map(|at| rows.iter().skip(at).step_by(inside).zip(&weights).map(|(v, w)| v * w).sum()).collect()
}

fn gaussian() -> [f64; WINDOW] {
    let mut weights = [0.0; WINDOW];
    for (at, weight) in weights.iter_mut().enumerate() {
        let distance = at as f64 - (WINDOW / 2) as f64;
        *weight = (-distance * distance / (2.0 * SIGMA * SIGMA)).exp();
    }
    let sum: f64 = weights.iter().sum();
    weights.map(|weight| weight / sum)
}

/// The mean of images of equal size: what a model that has learned nothing but brightness would answer.
///
/// # Errors
/// [`Error::Shape`] when there is no image or sizes differ.
pub fn mean_image<I: AsRef<[f32]>>(images: impl IntoIterator<Item = I>) -> Result<Vec<f32>> {
    let (mut sum, mut count) = (Vec::<f64>::new(), 0.0);
    for image in images {
        let image = image.as_ref();
        if count == 0.0 {
            sum = vec![0.0; image.len()];
        }
        if image.len() != sum.len() {
            return Err(Error::shape("mean_image", format!("{} values", sum.len()), image.len()));
        }
        sum.iter_mut().zip(image).for_each(|(s, v)| *s += f64::from(*v));
        count += 1.0;
    }
    if count == 0.0 {
        return Err(Error::shape("mean_image", "at least one image", "none"));
    }
    Ok(sum.iter().map(|s| (s / count) as f32).collect())
}

/// Means of PSNR and SSIM over images.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Scores {
    psnr: f64,
    ssim: f64,
    images: usize,
}

impl Scores {
    /// Adds one image and its reconstruction, `shape` = (C, H, W); the reconstruction is clamped to [0, 1] here.
    ///
    /// # Errors
    /// As [`mse`] and [`ssim`].
    pub fn add(&mut self, image: &[f32], reconstruction: &[f32], shape: [usize; 3]) -> Result<()> {
        let clamped: Vec<f32> = reconstruction.iter().map(|v| v.clamp(0.0, 1.0)).collect();
        let (psnr, ssim) = (psnr(image, &clamped)?, ssim(image, &clamped, shape)?);
        self.psnr += psnr;
        self.ssim += ssim;
        self.images += 1;
        Ok(())
    }

    /// Images added.
    #[must_use]
    pub fn images(&self) -> usize {
        self.images
    }

    /// Mean PSNR in decibels; NaN without images.
    #[must_use]
    pub fn psnr(&self) -> f64 {
        self.psnr / self.images as f64
    }

    /// Mean SSIM; NaN without images.
    #[must_use]
    pub fn ssim(&self) -> f64 {
        self.ssim / self.images as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reproducible noise in [0, 1].
    fn noise([c, h, w]: [usize; 3], seed: u64) -> Vec<f32> {
        let hash = |i: u64| {
            let mut x = (i * 2_654_435_761 + seed * 40_503) & 0xffff_ffff;
            x ^= x >> 15;
            x = (x * 2_246_822_519) & 0xffff_ffff;
            ((x ^ (x >> 13)) & 0xffff) as f64 / 65535.0
        };
        (0..(c * h * w) as u64).map(|i| hash(i) as f32).collect()
    }

    fn ramps([c, h, w]: [usize; 3]) -> Vec<f32> {
        let value = |k, y, x| (((x * (k + 1) + 2 * y) % (w + h)) as f64 / (w + h) as f64) as f32;
        (0..c * h * w).map(|i| value(i / (h * w), i / w % h, i % w)).collect()
    }

    /// Numbers computed by scikit-image 0.26.0 on the same images, in float64.
    #[test]
    fn scores_are_those_of_scikit_image() {
        let cases: [(&str, [usize; 3], f64, f64); 16] = [
            ("noise", [1, 11, 11], 0.44443855896011514, 9.049066332469952),
            ("same", [1, 11, 11], 1.0, HIGHEST_PSNR),
            ("near", [1, 11, 11], 0.9035779666771467, 21.316171140153823),
            ("black", [1, 11, 11], 6.76842669191375e-06, 5.100721415110394),
            ("noise", [3, 16, 16], 0.02353209921747738, 8.193191484404437),
            ("same", [3, 16, 16], 1.0, HIGHEST_PSNR),
            ("near", [3, 16, 16], 0.8693829423767797, 19.791989082892908),
            ("black", [3, 16, 16], 1.1636501688287928e-05, 5.046978236909291),
            ("noise", [3, 17, 23], 0.028760313171172894, 8.163089817145494),
            ("same", [3, 17, 23], 1.0, HIGHEST_PSNR),
            ("near", [3, 17, 23], 0.8198494491295693, 19.998434668269052),
            ("black", [3, 17, 23], 2.265779271094308e-05, 4.906745585936385),
            ("noise", [3, 32, 32], 0.04098153018173556, 7.961952561164448),
            ("same", [3, 32, 32], 1.0, HIGHEST_PSNR),
            ("near", [3, 32, 32], 0.6917910239081223, 19.854129509413077),
            ("black", [3, 32, 32], 8.087571768329338e-05, 4.908001037802734),
        ];
        let mut failed = Vec::new();
        for (name, shape, want_ssim, want_psnr) in cases {
            let (first, ramp) = (noise(shape, 1), ramps(shape));
            let (a, b) = match name {
                "noise" => (first, noise(shape, 2)),
                "same" => (first.clone(), first),
                "near" => (ramp.clone(), ramp.iter().zip(&first).map(|(r, n)| r * 0.75 + n * 0.25).collect()),
                _ => (ramp.clone(), vec![0.0; ramp.len()]),
            };
            let got = (ssim(&a, &b, shape).unwrap(), psnr(&a, &b).unwrap());
            if (got.0 - want_ssim).abs() > 1e-12 || (got.1 - want_psnr).abs() > 1e-9 {
                failed.push((name, shape, (want_ssim, want_psnr), got));
            }
        }
        assert!(failed.is_empty(), "(image, shape, want, got): {failed:#?}");
    }

    #[test]
    fn wrong_shapes_are_errors() {
        let image = vec![0.5; 3 * 16 * 16];
        let cases = [[3, 16, 15], [0, 16, 16], [3, 8, 32], [3, 32, 8], [1, 0, 0]];
        for shape in cases {
            assert!(ssim(&image, &image, shape).is_err(), "{shape:?}");
        }
        assert!(psnr(&image, &image[1..]).is_err());
        assert!(psnr(&[], &[]).is_err());
    }

    #[test]
    fn means_and_scores() {
        let mean = mean_image([&[0.0f32, 1.0][..], &[1.0, 1.0], &[0.5, 1.0]]).unwrap();
        assert_eq!(mean, [0.5, 1.0]);
        assert!(mean_image([&[0.0f32][..], &[1.0, 1.0]]).is_err());
        assert!(mean_image::<&[f32]>([]).is_err());
        let (shape, mut scores) = ([1, 11, 11], Scores::default());
        let image = vec![1.0; 121];
        scores.add(&image, &[1.5; 121], shape).unwrap();
        scores.add(&image, &[0.9; 121], shape).unwrap();
        assert_eq!(scores.images(), 2);
        assert!((scores.psnr() - (HIGHEST_PSNR + 20.0) / 2.0).abs() < 1e-5, "{}", scores.psnr());
        assert!(psnr(&[f32::NAN], &[0.0]).unwrap().is_nan());
    }
}
