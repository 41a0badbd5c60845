//! Mean and variance, as near as one rounding allows wherever the numbers lie.
//!
//! The mean of f32 numbers around 10⁶ is off by more than 0.01 after it has been rounded, and squares of
//! differences from it are too large by the square of that. So what it is off is measured and taken out: with
//! dᵢ = xᵢ − c for a c near the mean,
//!
//! mean = c + Σ d / m,   σ² = Σ d² / m − (Σ d / m)².
//!
//! (Chan, Golub & LeVeque 1983, "Algorithms for computing the sample variance", the corrected two-pass
//! algorithm.) That is one addition more for a number than with the mean itself, and no store.

use crate::float::Float;
use crate::reduce::{LANES, join, sum_lanes};

/// The numbers that are summed in the lanes of their own type before f64 takes over.
const CHUNK: usize = 1024;

/// Mean and variance of `count` numbers that lie in pieces.
#[inline(always)]
pub(crate) fn moments<'a, T: Float>(
    pieces: impl Iterator<Item = &'a [T]> + Clone,
    count: usize,
) -> (T, T) {
    let near = T::of(total(pieces.clone()) / count as f64);
    let (mut sum, mut squares) = (0.0, 0.0);
    for chunk in pieces.flat_map(|x| x.chunks(CHUNK)) {
        let (d, d2) = deviations(chunk, near);
        sum += d.to_f64();
        squares += d2.to_f64();
    }
    corrected(near, sum, squares, count)
}

/// Mean and variance from a number near the mean and the sums of differences from it and of their squares.
#[inline(always)]
pub(crate) fn corrected<T: Float>(near: T, sum: f64, squares: f64, count: usize) -> (T, T) {
    let rest = sum / count as f64;
    let variance = squares / count as f64 - rest * rest;
    // Rounding may leave less than nothing; a NaN stays one.
    (T::of(near.to_f64() + rest), T::of(if variance < 0.0 { 0.0 } else { variance }))
}

#[inline(always)]
fn total<'a, T: Float>(pieces: impl Iterator<Item = &'a [T]>) -> f64 {
    pieces.flat_map(|x| x.chunks(CHUNK)).map(|chunk| sum_lanes(chunk).to_f64()).sum()
}

/// Σᵢ (xᵢ − c) and Σᵢ (xᵢ − c)², in lanes.
#[inline(always)]
fn deviations<T: Float>(x: &[T], c: T) -> (T, T) {
    let (mut sums, mut squares) = ([T::ZERO; LANES], [T::ZERO; LANES]);
    let mut add = |x: &[T]| {
        for ((sum, square), &x) in sums.iter_mut().zip(&mut squares).zip(x) {
            let d = x - c;
            *sum += d;
            *square += d * d;
        }
    };
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    chunks.for_each(&mut add);
    add(rest);
    (join(sums), join(squares))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::noise;

    #[test]
    fn far_from_zero_moments_are_those_of_f64_up_to_a_rounding() {
        for offset in [0.0, 1e3, -1e5, 1e6] {
            for (pieces, len) in [(1, 48), (8, 100), (3, 5000), (1, 1)] {
                let x: Vec<f32> =
                    noise::<f32>(pieces * len, 7).iter().map(|&x| offset + x).collect();
                let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
                let mean = wide.iter().sum::<f64>() / wide.len() as f64;
                let variance =
                    wide.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / wide.len() as f64;
                let got = moments(x.chunks(len), x.len());
                // Half a unit in the last place, and what sums of differences below 1 are rounded by.
                let error = (f64::from(got.0) - mean).abs();
                let unit = 2_f64.powi(-24) * mean.abs() + 1e-8;
                assert!(error <= unit, "{offset}, {pieces} of {len}: {error}");
                // Sums in lanes of f32 are rounded a few times.
                let error = (f64::from(got.1) - variance).abs();
                assert!(error <= 2e-7 * variance, "{offset}, {pieces} of {len}: {error}");
            }
        }
    }

    #[test]
    fn equal_numbers_have_no_variance_and_a_nan_stays_visible() {
        let (mean, variance) = moments([1e6_f32 + 0.1; 77].chunks(20), 77);
        assert_eq!((mean, variance), (1e6 + 0.1, 0.0));
        let (mean, variance) = moments([1.0, f32::NAN].chunks(2), 2);
        assert!(mean.is_nan() && variance.is_nan());
    }
}
