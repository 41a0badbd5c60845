//! softmax: yᵢ = e^(xᵢ − m) / Σⱼ e^(xⱼ − m) with m = max x, which changes nothing but the range.
//!
//! Everything works on rows of `width` numbers. The logarithm is taken of the sum, never of a
//! probability: log yᵢ = xᵢ − m − ln Σⱼ e^(xⱼ − m), so no probability underflows to −∞. How softmax became
//! fast is in [`ladder`], rung by rung.
//!
//! Rows with infinite numbers have the values of the limit: numbers +∞ share 1 among them, and −∞ beside
//! others gets 0. A row of −∞ alone, of which everything is masked, has no weight at all: 0 everywhere. A
//! NaN spoils its row.

pub mod ladder;

use crate::float::Float;
use crate::parallel;
use crate::reduce::{LANES, dot_lanes, lanes2, sum_lanes};
use crate::sizes::elements;

/// What an exponential costs, in additions.
const EXP: usize = 8;

/// y = softmax(x) along rows.
///
/// # Shape
/// x, y: \[R, width\]
///
/// # Example
/// ```
/// let mut y = [0.0; 2];
/// alcyon_kernels::softmax::softmax(&[0.0, 3.0_f64.ln()], 2, &mut y);
/// assert!((y[0] - 0.25).abs() < 1e-15 && (y[1] - 0.75).abs() < 1e-15);
/// ```
pub fn softmax<T: Float>(x: &[T], width: usize, y: &mut [T]) {
    check_rows("softmax", width, x.len(), y.len());
    parallel::rows(
        y,
        width,
        EXP * width,
        #[inline(always)]
        |r, y| row(&x[r * width..(r + 1) * width], y),
    );
}

/// softmax of one row, in three passes over it.
#[inline(always)]
fn row<T: Float>(x: &[T], y: &mut [T]) {
    let max = largest(x);
    if !max.is_finite() {
        return infinite_row(x, max, y);
    }
    for (y, &x) in y.iter_mut().zip(x) {
        *y = (x - max).exp();
    }
    let scale = T::ONE / sum_lanes(y);
    y.iter_mut().for_each(|y| *y *= scale);
}

/// dx = y ∘ (g − ⟨g, y⟩) along rows.
///
/// # Shape
/// y = softmax(x), g, dx: \[R, width\]
///
/// # Example
/// ```
/// let mut dx = [0.0; 2];
/// alcyon_kernels::softmax::softmax_backward(&[0.25, 0.75], &[4.0, 0.0], 2, &mut dx);
/// assert_eq!(dx, [0.75, -0.75]);
/// ```
pub fn softmax_backward<T: Float>(y: &[T], g: &[T], width: usize, dx: &mut [T]) {
    check_rows("softmax_backward", width, y.len(), dx.len());
    assert_eq!(g.len(), dx.len(), "softmax_backward: lengths");
    parallel::rows(
        dx,
        width,
        2 * width,
        #[inline(always)]
        |r, dx| {
            let (y, g) = (&y[r * width..(r + 1) * width], &g[r * width..(r + 1) * width]);
            let mean = dot_lanes(g, y);
            for ((dx, &y), &g) in dx.iter_mut().zip(y).zip(g) {
                *dx = y * (g - mean);
            }
        },
    );
}

/// y = ln softmax(x) along rows.
///
/// # Shape
/// x, y: \[R, width\]
///
/// # Example
/// ```
/// let mut y = [0.0; 2];
/// alcyon_kernels::softmax::log_softmax(&[1000.0, 0.0], 2, &mut y);
/// assert_eq!(y, [0.0, -1000.0]); // the probability itself would be 0
/// ```
pub fn log_softmax<T: Float>(x: &[T], width: usize, y: &mut [T]) {
    check_rows("log_softmax", width, x.len(), y.len());
    parallel::rows(
        y,
        width,
        EXP * width,
        #[inline(always)]
        |r, y| {
            let x = &x[r * width..(r + 1) * width];
            let max = largest(x);
            if !max.is_finite() {
                infinite_row(x, max, y);
                return y.iter_mut().for_each(|y| *y = y.ln());
            }
            for (y, &x) in y.iter_mut().zip(x) {
                *y = (x - max).exp();
            }
            let log_sum = sum_lanes(y).ln();
            for (y, &x) in y.iter_mut().zip(x) {
                *y = x - max - log_sum;
            }
        },
    );
}

/// out\[r\] = ln Σᵢ e^x\[r, i\]: ∞ if a number is, −∞ if all are.
///
/// # Shape
/// x: \[R, width\], width ≥ 1 · out: \[R\]
///
/// # Example
/// ```
/// let (mut y, infinite) = ([0.0; 2], f64::INFINITY);
/// alcyon_kernels::softmax::log_sum_exp(&[-infinite, -infinite, infinite, 0.0], 2, &mut y);
/// assert_eq!(y, [-infinite, infinite]);
/// ```
pub fn log_sum_exp<T: Float>(x: &[T], width: usize, out: &mut [T]) {
    assert!(width > 0 && x.len() == out.len() * width, "log_sum_exp: lengths");
    parallel::rows(
        out,
        1,
        EXP * width,
        #[inline(always)]
        |r, out| {
            let x = &x[r * width..(r + 1) * width];
            let max = largest(x);
            out[0] = match max.is_finite() {
                true => max + lanes2(x, x, |x, _| (x - max).exp()).ln(),
                false if x.iter().any(|x| x.is_nan()) => nan(),
                false => max,
            };
        },
    );
}

/// dx = g − eʸ Σ g along rows.
///
/// # Shape
/// y = ln softmax(x), g, dx: \[R, width\]
///
/// # Example
/// ```
/// let mut dx = [0.0; 2];
/// let half = 0.5_f64.ln();
/// alcyon_kernels::softmax::log_softmax_backward(&[half, half], &[1.0, 0.0], 2, &mut dx);
/// assert_eq!(dx, [0.5, -0.5]);
/// ```
pub fn log_softmax_backward<T: Float>(y: &[T], g: &[T], width: usize, dx: &mut [T]) {
    check_rows("log_softmax_backward", width, y.len(), dx.len());
    assert_eq!(g.len(), dx.len(), "log_softmax_backward: lengths");
    parallel::rows(
        dx,
        width,
        EXP * width,
        #[inline(always)]
        |r, dx| {
            let (y, g) = (&y[r * width..(r + 1) * width], &g[r * width..(r + 1) * width]);
            let total = sum_lanes(g);
            for ((dx, &y), &g) in dx.iter_mut().zip(y).zip(g) {
                *dx = g - y.exp() * total;
            }
        },
    );
}

/// The cross-entropy −(1/R) Σᵣ log p\[r, labels\[r\]\] with p = softmax(logits); writes log p.
///
/// # Shape
/// logits, log_probabilities: \[R, width\] · labels: \[R\], each in 0..width
///
/// # Units
/// A mean over rows, in nats. Without rows it is NaN.
///
/// # Example
/// ```
/// let (logits, mut log_p) = ([0.0, 0.0, 3.0_f64.ln(), 0.0], [0.0; 4]);
/// let loss = alcyon_kernels::softmax::cross_entropy(&logits, &[0, 1], 2, &mut log_p);
/// assert!((loss - (2.0_f64.ln() + 4.0_f64.ln()) / 2.0).abs() < 1e-15);
/// ```
#[must_use]
pub fn cross_entropy<T: Float>(
    logits: &[T],
    labels: &[i64],
    width: usize,
    log_probabilities: &mut [T],
) -> T {
    check("cross_entropy", labels, width, logits.len());
    log_softmax(logits, width, log_probabilities);
    let rows = log_probabilities.chunks_exact(width.max(1)).zip(labels);
    let total: f64 = rows.map(|(row, &label)| row[label as usize].to_f64()).sum();
    T::of(-total / labels.len() as f64)
}

/// dx = scale · (eˡᵒᵍ ᵖ − e_label), the gradient of Σᵣ −log p\[r, labels\[r\]\] times `scale`.
///
/// # Units
/// `scale` is the incoming gradient divided by R, because the loss is a mean.
///
/// # Example
/// ```
/// let (log_p, mut dx) = ([0.25_f64.ln(), 0.75_f64.ln()], [0.0; 2]);
/// alcyon_kernels::softmax::cross_entropy_backward(&log_p, &[1], 2, 4.0, &mut dx);
/// assert!((dx[0] - 1.0).abs() < 1e-15 && (dx[1] + 1.0).abs() < 1e-15);
/// ```
pub fn cross_entropy_backward<T: Float>(
    log_probabilities: &[T],
    labels: &[i64],
    width: usize,
    scale: T,
    dx: &mut [T],
) {
    check("cross_entropy_backward", labels, width, log_probabilities.len());
    assert_eq!(log_probabilities.len(), dx.len(), "cross_entropy_backward: lengths");
    parallel::rows(
        dx,
        width,
        EXP * width,
        #[inline(always)]
        |r, dx| {
            let log_p = &log_probabilities[r * width..(r + 1) * width];
            for (dx, &log_p) in dx.iter_mut().zip(log_p) {
                *dx = scale * log_p.exp();
            }
            dx[labels[r] as usize] -= scale;
        },
    );
}

/// Asserts that both arrays are the same whole rows.
fn check_rows(kernel: &str, width: usize, from: usize, to: usize) {
    let rows = to.checked_div(width).unwrap_or(0);
    assert_eq!((from, rows * width), (to, to), "{kernel}: rows of {width}");
}

fn check(kernel: &str, labels: &[i64], width: usize, len: usize) {
    assert_eq!(len, elements(kernel, [labels.len(), width]), "{kernel}: one label per row");
    let outside = labels.iter().find(|&&l| usize::try_from(l).map_or(true, |l| l >= width));
    assert!(outside.is_none(), "{kernel}: label {outside:?} outside of 0..{width}");
}

/// softmax of a row whose largest number, NaN aside, is infinite.
#[cold]
#[inline(never)]
pub(crate) fn infinite_row<T: Float>(x: &[T], max: T, y: &mut [T]) {
    let largest = x.iter().filter(|&&x| x == max).count();
    let share = if max > T::ZERO { T::ONE / T::of(largest as f64) } else { T::ZERO };
    let spoilt = x.iter().any(|x| x.is_nan());
    for (y, &x) in y.iter_mut().zip(x) {
        *y = match x == max {
            _ if spoilt => nan(),
            true => share,
            false => T::ZERO,
        };
    }
}

fn nan<T: Float>() -> T {
    T::of(f64::NAN)
}

/// The largest number, NaN aside; in lanes, because a maximum does not mind the order.
#[inline(always)]
pub(crate) fn largest<T: Float>(x: &[T]) -> T {
    let mut lanes = [T::NEG_INFINITY; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        lanes.iter_mut().zip(chunk).for_each(|(max, &x)| *max = larger(*max, x));
    }
    lanes.into_iter().chain(rest.iter().copied()).fold(T::NEG_INFINITY, larger)
}

#[inline(always)]
fn larger<T: Float>(max: T, x: T) -> T {
    if x > max { x } else { max }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, finite_differences, inner_product, noise, unwritten};

    #[test]
    fn probabilities_are_the_quotient_of_exponentials_and_sum_to_one() {
        for width in 1..12 {
            let x = noise::<f64>(5 * width, 1);
            let (mut p, mut log_p) = (unwritten(x.len()), unwritten(x.len()));
            softmax(&x, width, &mut p);
            log_softmax(&x, width, &mut log_p);
            for (x, p) in x.chunks(width).zip(p.chunks(width)) {
                let total: f64 = x.iter().map(|x| x.exp()).sum();
                let want: Vec<_> = x.iter().map(|x| x.exp() / total).collect();
                assert_close(p, &want, 1e-14);
            }
            let logs: Vec<_> = p.iter().map(|p| p.ln()).collect();
            assert_close(&log_p, &logs, 1e-13);
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let (width, labels) = (5, [4, 0, 2]);
        let (x, g) = (noise::<f64>(15, 1), noise::<f64>(15, 2));
        let along = |f: fn(&[f64], usize, &mut [f64]), x: &[f64]| {
            let mut y = unwritten(15);
            f(x, width, &mut y);
            inner_product(&y, &g)
        };
        let (mut y, mut dx) = (unwritten(15), unwritten(15));
        softmax(&x, width, &mut y);
        softmax_backward(&y, &g, width, &mut dx);
        assert_close(&dx, &finite_differences(&x, |x| along(softmax, x)), 1e-9);

        log_softmax(&x, width, &mut y);
        log_softmax_backward(&y, &g, width, &mut dx);
        assert_close(&dx, &finite_differences(&x, |x| along(log_softmax, x)), 1e-9);

        cross_entropy_backward(&y, &labels, width, 1.0 / 3.0, &mut dx);
        let loss = |x: &[f64]| cross_entropy(x, &labels, width, &mut unwritten(15));
        assert_close(&dx, &finite_differences(&x, loss), 1e-9);
    }

    #[test]
    fn large_logits_do_not_overflow_and_nan_stays_visible() {
        let mut y = unwritten::<f32>(4);
        softmax(&[1e30, 1e30, f32::NAN, 0.0], 2, &mut y);
        assert_eq!(y[..2], [0.5, 0.5]);
        assert!(y[2].is_nan() && y[3].is_nan());
    }

    #[test]
    fn rows_of_infinite_numbers_have_the_values_of_the_limit() {
        const INF: f32 = f32::INFINITY;
        let rows = [[-INF, -INF, -INF], [INF, 0.0, INF], [-INF, 0.0, 0.0], [INF, -INF, 1e38]];
        let want = [[0.0; 3], [0.5, 0.0, 0.5], [0.0, 0.5, 0.5], [1.0, 0.0, 0.0]];
        let (x, want) = (rows.concat(), want.concat());
        let (mut p, mut log_p, mut dx, mut sums) =
            (unwritten(12), unwritten(12), unwritten(12), unwritten(4));
        softmax(&x, 3, &mut p);
        assert_eq!(p, want);
        log_softmax(&x, 3, &mut log_p);
        assert_close(&log_p[7..9], &[0.5_f32.ln(); 2], 1e-7);
        assert_eq!(log_p[..3], [-INF; 3]);
        assert_eq!(log_p[9..], [0.0, -INF, -INF]);
        log_sum_exp(&x, 3, &mut sums);
        assert_eq!([sums[0], sums[1], sums[3]], [-INF, INF, INF]);
        let loss = cross_entropy(&x, &[0, 0, 1, 0], 3, &mut log_p);
        assert_eq!(loss, INF, "the label of the first row is impossible");
        let g = [0.5_f32, 2.0, -1.0].repeat(4);
        softmax_backward(&p, &g, 3, &mut dx);
        assert!(dx.iter().all(|dx| dx.is_finite()) && dx[..3] == [0.0; 3], "{dx:?}");
        log_softmax_backward(&log_p, &g, 3, &mut dx);
        assert!(dx.iter().all(|dx| dx.is_finite()), "{dx:?}");
        cross_entropy_backward(&log_p, &[0, 0, 1, 0], 3, 1.0, &mut dx);
        assert!(dx.iter().all(|dx| dx.is_finite()), "{dx:?}");
    }

    #[test]
    fn a_nan_beside_an_infinite_number_spoils_the_row() {
        for x in [[f32::INFINITY, f32::NAN], [f32::NEG_INFINITY, f32::NAN], [f32::NAN; 2]] {
            let (mut y, mut sum) = (unwritten(2), unwritten(1));
            softmax(&x, 2, &mut y);
            assert!(y.iter().all(|y| y.is_nan()), "{x:?}: {y:?}");
            log_softmax(&x, 2, &mut y);
            assert!(y.iter().all(|y| y.is_nan()), "{x:?}: {y:?}");
            log_sum_exp(&x, 2, &mut sum);
            assert!(sum[0].is_nan());
        }
    }

    #[test]
    #[should_panic(expected = "cross_entropy: label Some(2) outside of 0..2")]
    fn a_label_outside_the_classes_is_refused() {
        let _ = cross_entropy(&[0.0, 0.0], &[2], 2, &mut [0.0; 2]);
    }
}
