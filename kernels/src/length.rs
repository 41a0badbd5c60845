//! The length of a vector, √Σ x², whatever its squares do.
//!
//! Squares leave the range of f64 long before numbers do: that of 1e160 is infinite, that of 1e-200 is 0. A
//! plain sum of squares is taken where it is an ordinary number. Elsewhere the numbers are multiplied by a
//! power of two first, which rounds nothing, and the length is divided by it. (Blue 1978, "A portable Fortran
//! program to find the Euclidean norm of a vector", has the idea.)

use std::ops::RangeInclusive;

use crate::reduce::exceeds;

/// Sums of squares that have neither overflowed nor lost what counts.
const ORDINARY: RangeInclusive<f64> = 1e-250..=1e300;

/// √Σ x², as a number and a power of two: root / scale.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Length {
    root: f64,
    scale: f64,
}

impl Length {
    /// √sum, of a plain sum of squares; `None` where squares may have overflowed or vanished.
    #[must_use]
    pub fn of_ordinary(sum: f64) -> Option<Self> {
        ORDINARY.contains(&sum).then(|| Self { root: sum.sqrt(), scale: 1.0 })
    }

    /// Of all parts together, added from the first to the last. Where a number is infinite or none, so is the length.
    #[must_use]
    pub fn of_any(parts: &[impl AsRef<[f64]>]) -> Self {
        let largest = largest(&parts.iter().map(|x| largest(x.as_ref())).collect::<Vec<_>>());
        if largest == 0.0 || !largest.is_finite() {
            return Self { root: largest, scale: 1.0 };
        }
        let exponent = (largest.to_bits() >> 52) as i32 - 1023;
        let scale = 2.0_f64.powi(-exponent);
        let sum: f64 = parts.iter().map(|x| squares(x.as_ref(), scale)).sum();
        Self { root: sum.sqrt(), scale }
    }

    /// The length; infinite where f64 ends.
    #[must_use]
    pub fn value(self) -> f64 {
        self.root / self.scale
    }

    /// What to multiply the numbers by, for the length to be `wanted`.
    #[must_use]
    pub fn factor_to(self, wanted: f64) -> f64 {
        wanted / self.root * self.scale
    }

    /// Whether every number is finite, which those of an infinite length can be.
    #[must_use]
    pub fn is_of_finite_numbers(self) -> bool {
        self.root.is_finite()
    }
}

/// Σ (s x)², added from the first number to the last.
#[must_use]
pub fn squares(x: &[f64], s: f64) -> f64 {
    x.iter().map(|x| s * x).map(|x| x * x).sum()
}

/// The largest |x|, or NaN where a number is none; 0 of nothing.
#[must_use]
pub fn largest(x: &[f64]) -> f64 {
    x.iter().fold(0.0, |max, x| if exceeds(x.abs(), max) { x.abs() } else { max })
}

/// √Σ x², added from the first number to the last.
///
/// # Example
/// ```
/// use alcyon_kernels::length::length;
/// assert_eq!(length(&[3.0, 4.0]), 5.0);
/// assert!((length(&[3e200, 4e200]) / 5e200 - 1.0).abs() < 1e-15);
/// assert!((length(&[3e-200, 4e-200]) / 5e-200 - 1.0).abs() < 1e-15);
/// ```
#[must_use]
pub fn length(x: &[f64]) -> f64 {
    Length::of_ordinary(squares(x, 1.0)).unwrap_or_else(|| Length::of_any(&[x])).value()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_homogeneous_from_the_smallest_numbers_to_the_largest() {
        let x = [0.3, -0.4, 0.1, 0.0, 0.2];
        let one = length(&x);
        for exponent in [-1000, -600, -530, -400, 0, 400, 515, 900, 1022] {
            let scale = 2.0_f64.powi(exponent);
            let scaled: Vec<f64> = x.iter().map(|x| x * scale).collect();
            let relative = length(&scaled) / scale / one - 1.0;
            // The same roundings in another binade.
            assert!(relative.abs() < 1e-15, "2^{exponent}: {relative}");
        }
    }

    #[test]
    fn a_length_beyond_the_largest_number_is_infinite_and_its_numbers_can_still_be_brought_to_one()
    {
        let x = [1.7e308; 4];
        let of = Length::of_any(&[x]);
        assert!(of.value().is_infinite() && of.is_of_finite_numbers());
        // 1/(3.4e308) has lost some digits: it is below the smallest number with all of them.
        assert!((length(&x.map(|x| x * of.factor_to(1.0))) - 1.0).abs() < 1e-12);
    }

    #[test]
    fn the_length_of_nothing_and_of_zeros_is_0_and_of_what_is_no_number_none() {
        assert_eq!((length(&[]), length(&[0.0, -0.0])), (0.0, 0.0));
        assert!(length(&[1.0, f64::NAN]).is_nan());
        assert_eq!(length(&[1.0, f64::NEG_INFINITY]), f64::INFINITY);
        assert_eq!(length(&[5e-324]), 5e-324);
    }
}
