//! Philox4x32-10 on the host: the same numbers as `shaders/parts/philox.wgsl`, bit for bit.
//!
//! Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011. A pure function of counter and
//! key: no state, so any element can be drawn alone, in any order, again.

/// Ten rounds: four random words for one counter under one key.
#[must_use]
pub fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let product = |a: u32, b: u32| {
        let wide = u64::from(a) * u64::from(b);
        ((wide >> 32) as u32, wide as u32)
    };
    let ([mut c0, mut c1, mut c2, mut c3], [mut k0, mut k1]) = (counter, key);
    for _ in 0..10 {
        let (high0, low0) = product(0xD251_1F53, c0);
        let (high1, low1) = product(0xCD9E_8D57, c2);
        (c0, c1, c2, c3) = (high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0);
        k0 = k0.wrapping_add(0x9E37_79B9);
        k1 = k1.wrapping_add(0xBB67_AE85);
    }
    [c0, c1, c2, c3]
}

/// Uniform in [0, 1): the upper 24 bits, which an f32 holds exactly.
#[must_use]
pub fn uniform4(bits: [u32; 4]) -> [f32; 4] {
    bits.map(|word| (word >> 8) as f32 * (1.0 / 16_777_216.0))
}

/// Standard normal, two pairs by Box and Muller: `r = sqrt(-2 ln(1 - u))`, `a = 2 pi v - pi`, `(r cos a, r sin a)`.
#[must_use]
pub fn normal4(bits: [u32; 4]) -> [f32; 4] {
    let [u0, v0, u1, v1] = uniform4(bits).map(f64::from);
    let pair = |u: f64, v: f64| {
        let radius = (-2.0 * (1.0 - u).ln()).sqrt();
        let (sin, cos) = (std::f64::consts::TAU * (v - 0.5)).sin_cos();
        ((radius * cos) as f32, (radius * sin) as f32)
    };
    let ((a, b), (c, d)) = (pair(u0, v0), pair(u1, v1));
    [a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Known answers published with the Random123 library for philox4x32 with 10 rounds.
    #[test]
    fn published_vectors() {
        let cases = [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ];
        let failed: Vec<_> = cases
            .iter()
            .map(|(counter, key, want)| (counter, want, philox(*counter, *key)))
            .filter(|(_, want, got)| *want != got)
            .collect();
        assert!(failed.is_empty(), "(counter, want, got): {failed:x?}");
    }

    #[test]
    fn uniform_range() {
        let cases = [([0; 4], 0.0), ([u32::MAX; 4], 1.0 - 1.0 / 16_777_216.0), ([1 << 31; 4], 0.5)];
        let failed: Vec<_> = cases.iter().filter(|(bits, want)| uniform4(*bits) != [*want; 4]).collect();
        assert!(failed.is_empty(), "{failed:?}");
        assert!(normal4([u32::MAX; 4]).iter().all(|v| v.is_finite()), "the largest uniform must not give infinity");
    }

    /// Mean 0, variance 1, third moment 0, fourth moment 3 over 400,000 draws: five standard errors each.
    #[test]
    fn normal_moments() {
        let draws: Vec<f64> = (0..100_000).flat_map(|i| normal4(philox([i, 0, 0, 0], [7, 0]))).map(f64::from).collect();
        let moment = |power: i32| draws.iter().map(|v| v.powi(power)).sum::<f64>() / draws.len() as f64;
        let error = |variance: f64| 5.0 * (variance / draws.len() as f64).sqrt();
        let cases = [(1, 0.0, 1.0), (2, 1.0, 2.0), (3, 0.0, 15.0), (4, 3.0, 96.0)];
        let failed: Vec<_> = cases
            .iter()
            .map(|(power, want, variance)| (power, want, moment(*power), error(*variance)))
            .filter(|(_, want, got, tolerance)| (*want - got).abs() > *tolerance)
            .collect();
        assert!(failed.is_empty(), "(power, want, got, tolerance): {failed:?}");
    }
}
