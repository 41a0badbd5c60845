//! The order of the elements of each row along an axis.

use std::cmp::Ordering;

use crate::float::Float;
use crate::parallel;
use crate::pool::Buffer;
use crate::sizes::elements;

/// Writes to out\[o, r, i\] where in x\[o, ·, i\] the element of rank r is. Equal elements keep their
/// order; NaN counts as the largest.
///
/// # Shape
/// x, out: \[outer, n, inner\]
///
/// # Example
/// ```
/// let mut order = [9; 3];
/// alcyon_kernels::sort::argsort(&[2.0, 3.0, 1.0], 1, 3, 1, true, &mut order);
/// assert_eq!(order, [1, 0, 2]);
/// ```
pub fn argsort<T: Float>(
    x: &[T],
    outer: usize,
    n: usize,
    inner: usize,
    descending: bool,
    out: &mut [i64],
) {
    let length = elements("argsort", [outer, n, inner]);
    assert_eq!((x.len(), out.len()), (length, length), "argsort: lengths");
    let log = usize::BITS as usize - n.leading_zeros() as usize;
    parallel::rows(out, n * inner, n * inner * (1 + log), |o, out| {
        let x = &x[o * n * inner..(o + 1) * n * inner];
        let mut order = Buffer::<i64>::unspecified(n);
        for i in 0..inner {
            let at = |j: &i64| x[*j as usize * inner + i];
            order.iter_mut().zip(0..).for_each(|(place, j)| *place = j);
            // Equal ones by their places: a stable sort would take memory of its own.
            if descending {
                order.sort_unstable_by(|a, b| compare(at(b), at(a)).then(a.cmp(b)));
            } else {
                order.sort_unstable_by(|a, b| compare(at(a), at(b)).then(a.cmp(b)));
            }
            for (r, &j) in order.iter().enumerate() {
                out[r * inner + i] = j;
            }
        }
    });
}

/// The order of numbers, with NaN above all.
fn compare<T: Float>(a: T, b: T) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::noise;

    #[test]
    fn ranks_count_the_smaller_elements() {
        for (outer, n, inner) in [(2, 7, 3), (1, 12, 1), (3, 1, 2), (2, 0, 2), (0, 3, 1)] {
            let x = noise::<f64>(outer * n * inner, 1);
            let mut order = vec![-1; x.len()];
            argsort(&x, outer, n, inner, false, &mut order);
            for o in 0..outer {
                for i in 0..inner {
                    let at = |j: usize| x[(o * n + j) * inner + i];
                    for r in 0..n {
                        let j = order[(o * n + r) * inner + i] as usize;
                        assert_eq!((0..n).filter(|&k| at(k) < at(j)).count(), r);
                    }
                }
            }
        }
    }

    #[test]
    fn equal_elements_keep_their_order_and_nan_is_the_largest() {
        let x = [1.0, f64::NAN, 0.0, 1.0, f64::INFINITY];
        let mut order = [9; 5];
        argsort(&x, 1, 5, 1, false, &mut order);
        assert_eq!(order, [2, 0, 3, 4, 1]);
        argsort(&x, 1, 5, 1, true, &mut order);
        assert_eq!(order, [1, 4, 0, 3, 2]);
    }
}
