//! `Float`: the scalar functions that kernels and op formulas are written with, for `f32` and `f64`.

use std::fmt::{Debug, Display};
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Sub, SubAssign};

use crate::elementary;
use crate::gemm::library::Product;

/// A floating point number: `f32` or `f64`.
///
/// Formulas are written once over `T: Float`; constants are given as `f64` through
/// [`Float::of`] and rounded to the type.
///
/// # Example
/// ```
/// use alcyon_kernels::Float;
/// fn softplus<T: Float>(x: T) -> T { x.max(T::ZERO) + (-x.abs()).exp().ln_1p() }
/// assert_eq!(softplus(0.0_f64), 2.0_f64.ln());
/// ```
pub trait Float:
    crate::pool::Pooled
    + Debug
    + Display
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + Sum
{
    /// 0
    const ZERO: Self;
    /// 1
    const ONE: Self;
    /// The distance from 1 to the next larger number.
    const EPSILON: Self;
    /// +∞
    const INFINITY: Self;
    /// −∞
    const NEG_INFINITY: Self;
    /// The largest finite number.
    const MAX: Self;
    /// The smallest positive number with all its digits.
    const MIN_POSITIVE: Self;

    /// The nearest number of this type.
    fn of(x: f64) -> Self;
    /// The same number as `f64` (exact).
    fn to_f64(self) -> f64;
    /// eˣ
    fn exp(self) -> Self;
    /// ln x
    fn ln(self) -> Self;
    /// ln(1 + x), accurate near 0.
    fn ln_1p(self) -> Self;
    /// √x
    fn sqrt(self) -> Self;
    /// tanh x
    fn tanh(self) -> Self;
    /// xᵖ
    fn powf(self, p: Self) -> Self;
    /// |x|
    fn abs(self) -> Self;
    /// The larger one; if one is NaN, the other.
    fn max(self, other: Self) -> Self;
    /// The smaller one; if one is NaN, the other.
    fn min(self, other: Self) -> Self;
    /// Neither infinite nor NaN.
    fn is_finite(self) -> bool;
    /// NaN
    fn is_nan(self) -> bool;
    /// self · a + b, rounded once where the machine can.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// sin x
    fn sin(self) -> Self;
    /// cos x
    fn cos(self) -> Self;
    /// −1, 0 or 1 (and NaN for NaN).
    fn signum(self) -> Self;
    /// The error function erf(x) = 2/√π ∫₀ˣ e^(−t²) dt.
    fn erf(self) -> Self;
    /// The library's product of two matrices, for this machine.
    #[doc(hidden)]
    fn product() -> Product<Self>;

    /// The logistic function σ(x) = 1 / (1 + e⁻ˣ).
    fn sigmoid(self) -> Self {
        Self::ONE / (Self::ONE + (-self).exp())
    }
}

macro_rules! float {
    ($t:ident, $exp:path, $ln:path, $tanh:path, $erf:path, $product:path) => {
        impl Float for $t {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;
            const EPSILON: Self = $t::EPSILON;
            const INFINITY: Self = $t::INFINITY;
            const NEG_INFINITY: Self = $t::NEG_INFINITY;
            const MAX: Self = $t::MAX;
            const MIN_POSITIVE: Self = $t::MIN_POSITIVE;

            #[inline(always)]
            fn of(x: f64) -> Self {
                x as $t
            }
            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn exp(self) -> Self {
                $exp(self)
            }
            #[inline(always)]
            fn ln(self) -> Self {
                $ln(self)
            }
            #[inline(always)]
            fn ln_1p(self) -> Self {
                $t::ln_1p(self)
            }
            #[inline(always)]
            fn sqrt(self) -> Self {
                $t::sqrt(self)
            }
            #[inline(always)]
            fn tanh(self) -> Self {
                $tanh(self)
            }
            #[inline(always)]
            fn powf(self, p: Self) -> Self {
                $t::powf(self, p)
            }
            #[inline(always)]
            fn abs(self) -> Self {
                $t::abs(self)
            }
            #[inline(always)]
            fn max(self, other: Self) -> Self {
                $t::max(self, other)
            }
            #[inline(always)]
            fn min(self, other: Self) -> Self {
                $t::min(self, other)
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                $t::is_finite(self)
            }
            #[inline(always)]
            fn is_nan(self) -> bool {
                $t::is_nan(self)
            }
            #[inline(always)]
            fn mul_add(self, a: Self, b: Self) -> Self {
                $t::mul_add(self, a, b)
            }
            #[inline(always)]
            fn sin(self) -> Self {
                $t::sin(self)
            }
            #[inline(always)]
            fn cos(self) -> Self {
                $t::cos(self)
            }
            #[inline(always)]
            fn signum(self) -> Self {
                if self == 0.0 { 0.0 } else { $t::signum(self) }
            }
            #[inline(always)]
            fn erf(self) -> Self {
                $erf(self)
            }
            fn product() -> Product<Self> {
                $product()
            }
        }
    };
}

float!(
    f32,
    elementary::exp,
    elementary::ln,
    elementary::tanh,
    libm::erff,
    gemm_f32::gemm::f32::get_gemm_fn
);
float!(f64, f64::exp, f64::ln, f64::tanh, libm::erf, gemm_f64::gemm::f64::get_gemm_fn);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn erf_agrees_with_tabulated_values() {
        // Abramowitz & Stegun, table 7.1.
        for (x, want) in
            [(0.0, 0.0), (0.5, 0.520_499_877_8), (1.0, 0.842_700_792_9), (2.0, 0.995_322_265_0)]
        {
            assert!((Float::erf(x) - want).abs() < 1e-10, "erf({x})");
            assert!((Float::erf(-x) + want).abs() < 1e-10, "erf(-{x})");
        }
    }

    #[test]
    fn the_sign_of_zero_is_zero() {
        assert_eq!(Float::signum(0.0_f32), 0.0);
        assert_eq!(Float::signum(-3.0_f64), -1.0);
    }
}
