//! The largest element along an axis.

use super::check_axis;
use crate::float::Float;
use crate::parallel;

/// The largest element along an axis and where it is: out\[o, i\] = maxₙ x\[o, n, i\].
///
/// The first of equal maxima wins; a NaN wins over every number, and the first NaN over the rest.
///
/// # Shape
/// x: \[outer, n, inner\], n ≥ 1 · out, at: \[outer, inner\]
///
/// # Example
/// ```
/// let (mut max, mut at) = ([0.0; 2], [0; 2]);
/// alcyon_kernels::reduce::max_axis(&[1.0, 7.0, 7.0, 5.0, 2.0, 3.0], 2, 3, 1, &mut max, &mut at);
/// assert_eq!((max, at), ([7.0, 5.0], [1, 0]));
/// ```
pub fn max_axis<T: Float>(
    x: &[T],
    outer: usize,
    n: usize,
    inner: usize,
    out: &mut [T],
    at: &mut [i64],
) {
    assert!(n >= 1, "max_axis: the axis is empty");
    check_axis("max_axis", (outer, n, inner), x.len(), out.len());
    assert_eq!(out.len(), at.len(), "max_axis: one place per output");
    parallel::rows2(
        (out, inner),
        (at, inner),
        n * inner,
        #[inline(always)]
        |o, out, at| {
            let plane = &x[o * n * inner..(o + 1) * n * inner];
            out.copy_from_slice(&plane[..inner]);
            at.fill(0);
            for (k, row) in plane.chunks_exact(inner).enumerate().skip(1) {
                for ((max, at), &x) in out.iter_mut().zip(at.iter_mut()).zip(row) {
                    if exceeds(x, *max) {
                        (*max, *at) = (x, k as i64);
                    }
                }
            }
        },
    );
}

/// Whether `x` takes the place of the maximum so far: it is larger, or the first NaN.
#[inline(always)]
pub(crate) fn exceeds<T: Float>(x: T, max: T) -> bool {
    x > max || (x.is_nan() && !max.is_nan())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::unwritten;

    #[test]
    fn the_first_maximum_wins_and_nan_wins_over_numbers() {
        let nan = f32::NAN;
        let x = [1.0, nan, 2.0, 2.0, 5.0, 2.0, -1.0, nan, nan]; // [3, 3]
        let (mut max, mut at) = (unwritten(3), vec![-1; 3]);
        max_axis(&x, 1, 3, 3, &mut max, &mut at);
        assert_eq!(at, [1, 0, 2]);
        assert!(max[0] == 2.0 && max[1].is_nan() && max[2].is_nan());
        max_axis(&x, 3, 3, 1, &mut max, &mut at);
        assert_eq!(at, [1, 1, 1]);
        assert!(max[0].is_nan() && max[1] == 5.0 && max[2].is_nan());
        let mut one = [0.0];
        max_axis(&[f32::NEG_INFINITY; 2], 1, 2, 1, &mut one, &mut at[..1]);
        assert_eq!((one[0], at[0]), (f32::NEG_INFINITY, 0));
    }
}
