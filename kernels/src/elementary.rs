//! eˣ, ln x and tanh x for `f32`, in steps that a vector unit can take for many numbers at once.
//!
//! The C library's functions look at each number by itself, with tables and branches, which keeps a
//! loop over them scalar. Here the argument is reduced to a short interval, a polynomial is evaluated
//! there, and what differs from number to number is chosen, not branched on (Muller 2016, *Elementary
//! Functions*, chapters 3 and 11). The polynomials are near the best of their degree for the *relative*
//! error (Lawson's iteration); nothing is fused, so every instruction set gives the same bits.
//!
//! | function | largest error, every 17th of all arguments | special |
//! |---|---|---|
//! | [`exp`] | 0.97 ulp | overflows to ∞, underflows gradually |
//! | [`ln`] | 0.82 ulp | −∞ at 0, NaN below, subnormals too |
//! | [`tanh`] | 2.61 ulp | odd, never above 1 |
//!
//! NaN gives NaN.

/// ln 2 = HIGH + LOW, where HIGH has so few digits that n·HIGH is exact for every exponent n.
const LN2_HIGH: f32 = 355.0 / 512.0;
const LN2_LOW: f32 = -2.121_944_4e-4;

/// Adding and subtracting this rounds to the nearest integer: 1.5 · 2²³.
const ROUND: f32 = 12_582_912.0;

/// x = n ln 2 + r with |r| ≤ ln 2 / 2; returns n (as bits above [`ROUND`]'s) and eʳ − 1.
#[inline(always)]
fn reduced_expm1(x: f32) -> (i32, f32) {
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = (x - n * LN2_HIGH) - n * LN2_LOW;
    // (eʳ − 1 − r) / r²
    let p = 1.381_464_6e-3;
    let p = p * r + 8.368_719e-3;
    let p = p * r + 4.166_839_3e-2;
    let p = p * r + 1.666_652_1e-1;
    let p = p * r + 4.999_999_3e-1;
    let n = (shifted.to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
    (n, p * (r * r) + r)
}

/// 2ⁿ for −126 ≤ n ≤ 127.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// eˣ
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    // Beyond these the result is ∞ or 0 already. Comparisons, not `clamp`: NaN stays NaN.
    let x = if x > 89.0 { 89.0 } else { x };
    let x = if x < -104.0 { -104.0 } else { x };
    let (n, expm1) = reduced_expm1(x);
    // Two factors, since 2ⁿ itself may lie outside the normal numbers.
    let half = n >> 1;
    (1.0 + expm1) * power_of_two(half) * power_of_two(n.wrapping_sub(half))
}

/// tanh x = (e^(2|x|) − 1) / (e^(2|x|) + 1), with the sign of x.
#[inline(always)]
pub(crate) fn tanh(x: f32) -> f32 {
    let a = x.abs();
    // From here on tanh rounds to 1.
    let a = if a > 9.1 { 9.1 } else { a };
    let (n, expm1) = reduced_expm1(2.0 * a);
    let scale = power_of_two(n);
    let m = scale * expm1 + (scale - 1.0);
    (m / (m + 2.0)).copysign(x)
}

/// ln x
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    // Subnormal numbers are made normal first: ln x = ln(2²³x) − 23 ln 2.
    let tiny = x < f32::MIN_POSITIVE;
    let (normal, shift) = if tiny { (x * 8_388_608.0, -23.0) } else { (x, 0.0) };
    // x = 2ⁿ(1 + f) with √½ ≤ 1 + f < √2.
    let bits = normal.to_bits().wrapping_add(1.0_f32.to_bits() - 0x3f35_04f3);
    let n = ((bits as i32) >> 23).wrapping_sub(127) as f32 + shift;
    let f = f32::from_bits((bits & 0x007f_ffff).wrapping_add(0x3f35_04f3)) - 1.0;
    // (ln(1 + f) − f + f²/2) / f³
    let p = 6.746_642e-2;
    let p = p * f - 1.167_565_7e-1;
    let p = p * f + 1.188_816_5e-1;
    let p = p * f - 1.240_558_8e-1;
    let p = p * f + 1.421_955_2e-1;
    let p = p * f - 1.666_799_6e-1;
    let p = p * f + 2.000_211_9e-1;
    let p = p * f - 2.500_001e-1;
    let p = p * f + 3.333_331_3e-1;
    let square = f * f;
    let y = p * f * square + n * LN2_LOW - 0.5 * square + f + n * LN2_HIGH;
    let y = if x == f32::INFINITY { x } else { y };
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    if x >= 0.0 { y } else { f32::NAN }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error in units of the last place of the result, by the f64 function.
    fn ulps(got: f32, want: f64) -> f64 {
        let rounded = want as f32;
        if got == rounded || (got.is_nan() && want.is_nan()) {
            return if want.is_finite() && rounded.is_finite() {
                (f64::from(got) - want).abs() / ulp(rounded)
            } else {
                0.0
            };
        }
        (f64::from(got) - want).abs() / ulp(rounded)
    }

    fn ulp(x: f32) -> f64 {
        let exponent = (i32::try_from(x.to_bits() >> 23 & 0xff).unwrap() - 127).clamp(-126, 127);
        2.0_f64.powi(exponent - 23)
    }

    /// The largest error over every `step`-th bit pattern.
    fn largest(step: usize, f: fn(f32) -> f32, exact: fn(f64) -> f64) -> (f64, f32) {
        let mut worst = (0.0, 0.0);
        for bits in (0..=u32::MAX).step_by(step) {
            let x = f32::from_bits(bits);
            let error = ulps(f(x), exact(f64::from(x)));
            assert!(!error.is_nan(), "at {x:e}: {}", f(x));
            if error > worst.0 {
                worst = (error, x);
            }
        }
        worst
    }

    type Case = (fn(f32) -> f32, fn(f64) -> f64, f64);

    /// Each function, its exact twin, and the bound on its error in ulp: the table above, rounded up.
    const CASES: [Case; 3] = [(exp, f64::exp, 1.0), (ln, f64::ln, 0.9), (tanh, f64::tanh, 2.7)];

    #[test]
    fn errors_stay_below_the_stated_bounds_over_all_magnitudes() {
        for (f, exact, bound) in CASES {
            // An odd step visits every exponent, with many fractions.
            let (error, x) = largest(4099, f, exact);
            assert!(error <= bound, "{error} ulp at {x:e}");
        }
    }

    #[test]
    #[ignore = "minutes: all 2³² arguments"]
    fn the_bounds_hold_for_every_argument() {
        for (f, exact, bound) in CASES {
            let (error, x) = largest(1, f, exact);
            assert!(error <= bound, "{error} ulp at {x:e}");
        }
    }

    #[test]
    fn the_ends_of_the_range_are_exact() {
        assert_eq!(
            (exp(0.0), exp(f32::NEG_INFINITY), exp(f32::INFINITY)),
            (1.0, 0.0, f32::INFINITY)
        );
        assert_eq!((exp(89.0), exp(-104.0)), (f32::INFINITY, 0.0));
        assert_eq!((ln(1.0), ln(0.0), ln(f32::INFINITY)), (0.0, f32::NEG_INFINITY, f32::INFINITY));
        assert_eq!((tanh(30.0), tanh(-30.0), tanh(f32::INFINITY)), (1.0, -1.0, 1.0));
        assert_eq!(tanh(-0.0).to_bits(), (-0.0_f32).to_bits());
        for f in [exp, ln, tanh] {
            assert!(f(f32::NAN).is_nan());
        }
        assert!(ln(-1.0).is_nan() && ln(f32::NEG_INFINITY).is_nan());
    }

    #[test]
    fn tanh_is_odd_and_stays_within_one() {
        for i in 0..100_000 {
            let x = i as f32 * 1e-4;
            assert_eq!(tanh(-x), -tanh(x));
            assert!(tanh(x) <= 1.0);
        }
    }
}
