//! The ladder to [`softmax()`](super::softmax): each rung does one thing more than the one before.
//!
//! | rung             | changes                                                            | gain |
//! |------------------|--------------------------------------------------------------------|------|
//! | [`fn@reference`]    | the formula: maximum, exponentials, sum, quotient of a row         | 1    |
//! | [`polynomial`]   | exponentials without tables and branches: the compiler takes four at once | 2.8 |
//! | [`lanes`]        | 16 maxima and 16 sums side by side: no addition waits for the last | 4.3 |
//! | [`wide`]         | the loop compiled for the vectors of this machine                  | 7.8 |
//! | [`softmax()`](super::softmax) | rows shared out among threads                         | 12 |
//! | [`online`]       | beside the ladder: one pass less over a row, two exponentials more | 2.5 |
//!
//! The gain over the first rung: `kernel/softmax` of `benches/kernels.rs`, 4096 × 256 f32, the median
//! of three runs on an EPYC 7003 (AVX2), two cores, 2026-11-22.

use super::{larger, largest, row};
use crate::float::Float;
use crate::reduce::{LANES, sum_lanes};
use crate::vector::vectorized;

/// softmax by the definition, with the C library's exponential of a `f64`.
///
/// # Shape
/// x, y: \[R, width\], as in all rungs
///
/// # Example
/// ```
/// let mut y = [0.0; 2];
/// alcyon_kernels::softmax::ladder::reference(&[0.0, 3.0_f64.ln()], 2, &mut y);
/// assert!((y[0] - 0.25).abs() < 1e-15 && (y[1] - 0.75).abs() < 1e-15);
/// ```
pub fn reference<T: Float>(x: &[T], width: usize, y: &mut [T]) {
    in_order(x, width, y, |x| T::of(x.to_f64().exp()));
}

/// [`fn@reference`] with [`Float::exp`], which for `f32` is a polynomial.
pub fn polynomial<T: Float>(x: &[T], width: usize, y: &mut [T]) {
    in_order(x, width, y, T::exp);
}

fn in_order<T: Float>(x: &[T], width: usize, y: &mut [T], exp: impl Fn(T) -> T) {
    for (x, y) in rows(x, width, y) {
        let max = x.iter().copied().fold(T::NEG_INFINITY, larger);
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = exp(x - max));
        let sum: T = y.iter().copied().sum();
        y.iter_mut().for_each(|y| *y /= sum);
    }
}

/// [`polynomial`] with the maximum and the sum taken in [`LANES`].
pub fn lanes<T: Float>(x: &[T], width: usize, y: &mut [T]) {
    for (x, y) in rows(x, width, y) {
        row(x, y);
    }
}

/// [`lanes`] with the widest vectors of this machine.
pub fn wide<T: Float>(x: &[T], width: usize, y: &mut [T]) {
    vectorized(
        #[inline(always)]
        || {
            for (x, y) in rows(x, width, y) {
                row(x, y);
            }
        },
    );
}

/// [`wide`] with maximum and sum from one pass: when a larger number comes, the sum so far shrinks by
/// e^(old − new). That pays where memory is slower than exponentials, as on a GPU; a row that stays
/// in the cache is cheaper to read once more.
///
/// # Source
/// Milakov & Gimelshein 2018, algorithm 3.
pub fn online<T: Float>(x: &[T], width: usize, y: &mut [T]) {
    vectorized(
        #[inline(always)]
        || {
            for (x, y) in rows(x, width, y) {
                online_row(x, y);
            }
        },
    );
}

#[inline(always)]
fn online_row<T: Float>(x: &[T], y: &mut [T]) {
    // Below every number but −∞, and finite: −∞ − (−∞) would be NaN.
    let (mut max, mut sum) = ([T::of(-3e38); LANES], [T::ZERO; LANES]);
    for chunk in x.chunks(LANES) {
        for ((max, sum), &x) in max.iter_mut().zip(&mut sum).zip(chunk) {
            let new = larger(*max, x);
            *sum = *sum * (*max - new).exp() + (x - new).exp();
            *max = new;
        }
    }
    let top = largest(&max);
    sum.iter_mut().zip(max).for_each(|(sum, max)| *sum *= (max - top).exp());
    let scale = T::ONE / sum_lanes(&sum);
    y.iter_mut().zip(x).for_each(|(y, &x)| *y = (x - top).exp() * scale);
}

/// The rows of x and y.
fn rows<'a, T>(
    x: &'a [T],
    width: usize,
    y: &'a mut [T],
) -> impl Iterator<Item = (&'a [T], &'a mut [T])> {
    assert_eq!(x.len(), y.len(), "softmax: lengths");
    x.chunks_exact(width.max(1)).zip(y.chunks_exact_mut(width.max(1)))
}

#[cfg(test)]
mod tests {
    use super::super::softmax;
    use super::*;
    use crate::oracle::{assert_close, noise, unwritten};
    use proptest::prelude::*;

    fn agrees<T: Float>(count: usize, width: usize, size: f64, tolerance: f64) {
        let x: Vec<T> = noise::<f64>(count * width, 1).iter().map(|x| T::of(size * x)).collect();
        let (mut want, mut got) = (unwritten(x.len()), unwritten(x.len()));
        reference(&x, width, &mut want);
        for rung in [polynomial, lanes, wide, online, softmax] {
            rung(&x, width, &mut got);
            assert_close(&got, &want, tolerance);
            got.fill(T::of(f64::NAN));
        }
    }

    proptest! {
        #[test]
        fn every_rung_agrees_with_the_reference(
            count in 0_usize..5, width in 1_usize..70, size in 0.1_f64..200.0,
        ) {
            agrees::<f64>(count, width, size, 1e-13);
            agrees::<f32>(count, width, size, 1e-6);
        }

        #[test]
        fn wide_vectors_and_threads_change_no_bit(count in 0_usize..5, width in 1_usize..70) {
            let x = noise::<f32>(count * width, 1);
            let mut y = [(); 3].map(|()| vec![0.0; x.len()]);
            for (rung, y) in [lanes, wide, softmax].into_iter().zip(&mut y) {
                rung(&x, width, y);
            }
            prop_assert_eq!(&y[0], &y[1]);
            prop_assert_eq!(&y[1], &y[2]);
        }
    }
}
