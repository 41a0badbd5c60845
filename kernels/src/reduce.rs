//! Sums, dot products and maxima, with a fixed order.
//!
//! A sum is taken in blocks of [`BLOCK`] elements, each with [`LANES`] running sums side by side
//! (which is what the vector unit adds at once), and the block sums are summed the same way. The
//! order depends on the length alone, so any number of threads gives the same bits. What runs over an
//! axis is carried in f64 and rounded once: an f32 stops counting at 2²⁴, and loses digits long before.

mod max;
mod pairs;
mod variance;

pub(crate) use max::exceeds;
pub use max::max_axis;

pub(crate) use pairs::lanes2;
pub use pairs::sum_of;
pub use variance::variance_axis;

use crate::float::Float;
use crate::parallel;
use crate::pool::Buffer;
use crate::sizes::elements;
use crate::vector::vectorized;

/// The number of elements that are summed by one thread in one go.
pub const BLOCK: usize = 16384;

/// Running sums that are kept side by side.
pub const LANES: usize = 16;

/// Σᵢ x\[i\]
///
/// # Example
/// ```
/// assert_eq!(alcyon_kernels::reduce::sum(&[1.0, 2.0, 3.5]), 6.5);
/// ```
#[must_use]
pub fn sum<T: Float>(x: &[T]) -> T {
    T::of(total(x))
}

/// The sum before it is rounded.
fn total<T: Float>(x: &[T]) -> f64 {
    in_blocks(
        x.len(),
        #[inline(always)]
        |from, to| sum_wide(&x[from..to]),
    )
}

/// Σᵢ a\[i\] b\[i\]
///
/// # Example
/// ```
/// assert_eq!(alcyon_kernels::reduce::dot(&[1.0, 2.0, 3.0], &[4.0, 5.0, 6.0]), 32.0);
/// ```
#[must_use]
pub fn dot<T: Float>(a: &[T], b: &[T]) -> T {
    assert_eq!(a.len(), b.len(), "dot: lengths");
    T::of(sum_of(a, b, |a, b| a * b))
}

/// out\[o, i\] = Σₙ x\[o, n, i\]
///
/// # Shape
/// x: \[outer, n, inner\] · out: \[outer, inner\]
///
/// # Example
/// ```
/// let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]; // [[1, 2, 3], [4, 5, 6]]
/// let (mut columns, mut rows) = ([0.0; 3], [0.0; 2]);
/// alcyon_kernels::reduce::sum_axis(&x, 1, 2, 3, &mut columns);
/// alcyon_kernels::reduce::sum_axis(&x, 2, 3, 1, &mut rows);
/// assert_eq!((columns, rows), ([5.0, 7.0, 9.0], [6.0, 15.0]));
/// ```
pub fn sum_axis<T: Float>(x: &[T], outer: usize, n: usize, inner: usize, out: &mut [T]) {
    scaled_sum_axis(x, (outer, n, inner), 1.0, out);
}

/// out\[o, i\] = scale · Σₙ x\[o, n, i\], rounded once: a mean is 1/n times a sum.
///
/// # Example
/// ```
/// let mut mean = [0.0_f32]; // the sum itself would be infinite
/// alcyon_kernels::reduce::scaled_sum_axis(&[3e38_f32, 3e38], (1, 2, 1), 0.5, &mut mean);
/// assert_eq!(mean, [3e38]);
/// ```
pub fn scaled_sum_axis<T: Float, U: Float>(
    x: &[T],
    (outer, n, inner): (usize, usize, usize),
    scale: f64,
    out: &mut [U],
) {
    check_axis("sum_axis", (outer, n, inner), x.len(), out.len());
    fold_axis(
        x,
        n,
        inner,
        out,
        #[inline(always)]
        |sum, x| sum + x,
        total,
        #[inline(always)]
        |sum| scale * sum,
    );
}

/// out\[o, i\] = Σₙ x\[o, n, i\]², the second moments along an axis.
///
/// # Example
/// ```
/// let mut squares = [0.0; 2];
/// alcyon_kernels::reduce::square_sum_axis(&[1.0, 2.0, 3.0, 4.0], 1, 2, 2, &mut squares);
/// assert_eq!(squares, [10.0, 20.0]);
/// ```
pub fn square_sum_axis<T: Float>(x: &[T], outer: usize, n: usize, inner: usize, out: &mut [T]) {
    check_axis("square_sum_axis", (outer, n, inner), x.len(), out.len());
    fold_axis(
        x,
        n,
        inner,
        out,
        #[inline(always)]
        |sum, x| sum + x * x,
        #[inline(always)]
        |row| sum_of(row, row, |a, b| a * b),
        #[inline(always)]
        |sum| sum,
    );
}

fn check_axis(kernel: &str, (outer, n, inner): (usize, usize, usize), x: usize, out: usize) {
    assert_eq!(x, elements(kernel, [outer, n, inner]), "{kernel}: input length");
    assert_eq!(out, elements(kernel, [outer, inner]), "{kernel}: output length");
}

/// Combines `block(from, to)` over fixed blocks of `0..len`.
fn in_blocks(len: usize, block: impl Fn(usize, usize) -> f64 + Sync + Send) -> f64 {
    if len <= BLOCK {
        return vectorized(
            #[inline(always)]
            || block(0, len),
        );
    }
    let mut partial = Buffer::<f64>::unspecified(len.div_ceil(BLOCK));
    parallel::rows(
        &mut partial,
        1,
        BLOCK,
        #[inline(always)]
        |i, sum| {
            sum[0] = block(i * BLOCK, len.min((i + 1) * BLOCK));
        },
    );
    total(&partial)
}

/// A left fold from 0 along the middle axis, in f64, of which `finish` makes what is written; `whole` folds a
/// contiguous row when inner = 1.
fn fold_axis<T: Float, U: Float>(
    x: &[T],
    n: usize,
    inner: usize,
    out: &mut [U],
    add: impl Fn(f64, f64) -> f64 + Sync + Send + Copy,
    whole: impl Fn(&[T]) -> f64 + Sync + Send,
    finish: impl Fn(f64) -> f64 + Sync + Send,
) {
    if inner == 1 {
        return parallel::rows(
            out,
            1,
            n,
            #[inline(always)]
            |o, out| out[0] = U::of(finish(whole(&x[o * n..(o + 1) * n]))),
        );
    }
    if inner == 0 {
        return;
    }
    let plane = n * inner;
    if n <= block_height(inner) {
        return parallel::rows(
            out,
            inner,
            plane,
            #[inline(always)]
            |o, out| {
                let mut sums = Buffer::<f64>::unspecified(inner);
                fold_rows(&x[o * plane..(o + 1) * plane], inner, &mut sums, add);
                out.iter_mut().zip(&*sums).for_each(|(out, &sum)| *out = U::of(finish(sum)));
            },
        );
    }
    let mut sums = Buffer::<f64>::unspecified(inner);
    for (o, out) in out.chunks_exact_mut(inner).enumerate() {
        let plane = &x[o * plane..(o + 1) * plane];
        in_row_blocks(
            n,
            inner,
            &mut sums,
            #[inline(always)]
            |from, to, sums| {
                fold_rows(&plane[from * inner..to * inner], inner, sums, add);
            },
        );
        out.iter_mut().zip(&*sums).for_each(|(out, &sum)| *out = U::of(finish(sum)));
    }
}

/// The left fold of rows of `inner` elements, from 0.
#[inline(always)]
fn fold_rows<T: Float>(rows: &[T], inner: usize, sums: &mut [f64], add: impl Fn(f64, f64) -> f64) {
    sums.fill(0.0);
    for row in rows.chunks_exact(inner) {
        for (sum, &x) in sums.iter_mut().zip(row) {
            *sum = add(*sum, x.to_f64());
        }
    }
}

/// How many rows of a matrix are summed in one go: a fixed number for each width.
fn block_height(width: usize) -> usize {
    (4 * BLOCK / width.max(1)).clamp(64, 1024)
}

/// out = Σ over fixed blocks of the rows `0..n` of `block(from, to, partial)`, which writes the
/// sum of its rows. `width` is the work in a row. Used for every sum over examples.
pub(crate) fn in_row_blocks<T: Float>(
    n: usize,
    width: usize,
    out: &mut [T],
    block: impl Fn(usize, usize, &mut [T]) + Sync + Send,
) {
    let len = out.len();
    let height = block_height(width);
    if n <= height {
        return vectorized(
            #[inline(always)]
            || block(0, n, out),
        );
    }
    let blocks = n.div_ceil(height);
    let mut partial = Buffer::<T>::unspecified(blocks * len);
    parallel::rows(
        &mut partial,
        len,
        height * width,
        #[inline(always)]
        |i, partial| {
            block(i * height, n.min((i + 1) * height), partial);
        },
    );
    let mut sums = Buffer::<f64>::unspecified(len);
    vectorized(
        #[inline(always)]
        || fold_rows(&partial, len.max(1), &mut sums, |sum, x| sum + x),
    );
    out.iter_mut().zip(&*sums).for_each(|(out, &sum)| *out = T::of(sum));
}

/// out\[k\] = Σ over n and s of f(k, a\[n, k, s\], b\[n, k, s\]), in a fixed order.
pub(crate) fn channel_sums<T: Float>(
    a: &[T],
    b: &[T],
    (n, c, s): (usize, usize, usize),
    out: &mut [T],
    f: impl Fn(usize, T, T) -> T + Sync + Send,
) {
    if s == 1 {
        // Channels are neighbours: add rows.
        return in_row_blocks(
            n,
            c,
            out,
            #[inline(always)]
            |from, to, sum| {
                sum.fill(T::ZERO);
                for r in from..to {
                    let (a, b) = (&a[r * c..(r + 1) * c], &b[r * c..(r + 1) * c]);
                    for (k, (sum, (&a, &b))) in sum.iter_mut().zip(a.iter().zip(b)).enumerate() {
                        *sum += f(k, a, b);
                    }
                }
            },
        );
    }
    parallel::rows(
        out,
        1,
        n * s,
        #[inline(always)]
        |k, sum| {
            sum[0] = (0..n)
                .map(|n| {
                    let plane = (n * c + k) * s..(n * c + k + 1) * s;
                    lanes2(&a[plane.clone()], &b[plane], |a, b| f(k, a, b))
                })
                .sum();
        },
    );
}

/// A sum on one thread, in lanes.
#[inline(always)]
pub(crate) fn sum_lanes<T: Float>(x: &[T]) -> T {
    let mut lanes = [T::ZERO; LANES];
    let chunks = x.chunks_exact(LANES);
    let rest = chunks.remainder();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += x;
        }
    }
    for (lane, &x) in lanes.iter_mut().zip(rest) {
        *lane += x;
    }
    join(lanes)
}

/// A long sum on one thread, of four runs side by side: memory answers several requests at once, and
/// what the machine fetches ahead of a run ends at its page.
#[inline(always)]
fn sum_wide<T: Float>(x: &[T]) -> f64 {
    let (chunks, rest) = x.as_chunks::<LANES>();
    let run = chunks.len() / 4;
    let (front, back) = chunks.split_at(2 * run);
    let ((one, two), (three, four)) = (front.split_at(run), back.split_at(run));
    let mut sets = [[0.0; LANES]; 4];
    for i in 0..run {
        add(&mut sets[0], &one[i]);
        add(&mut sets[1], &two[i]);
        add(&mut sets[2], &three[i]);
        add(&mut sets[3], &four[i]);
    }
    four[run..].iter().for_each(|chunk| add(&mut sets[0], chunk));
    let [a, b, c, d] = sets;
    let total = std::array::from_fn(|i| (a[i] + b[i]) + (c[i] + d[i]));
    join(total) + lanes2(rest, rest, |x, _| x.to_f64())
}

#[inline(always)]
fn add<T: Float>(lanes: &mut [f64; LANES], x: &[T; LANES]) {
    for (lane, &x) in lanes.iter_mut().zip(x) {
        *lane += x.to_f64();
    }
}

/// A dot product on one thread, in lanes.
#[inline(always)]
pub(crate) fn dot_lanes<T: Float>(a: &[T], b: &[T]) -> T {
    lanes2(a, b, |a, b| a * b)
}

/// The lanes, added as a balanced tree.
#[inline(always)]
pub(crate) fn join<T: Float>(mut lanes: [T; LANES]) -> T {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{
        assert_close, assert_same_bits_for_any_number_of_threads, noise, unwritten,
    };

    #[test]
    fn sums_agree_with_a_sum_in_double_precision() {
        for n in (0..40).chain([BLOCK, BLOCK + 1, 70_001]) {
            let (x, y) = (noise::<f32>(n, 1), noise::<f32>(n, 2));
            let exact: f64 = x.iter().map(|&x| f64::from(x)).sum();
            let product: f64 = x.iter().zip(&y).map(|(&x, &y)| f64::from(x) * f64::from(y)).sum();
            let tolerance = 1e-6 * (n as f64).sqrt().max(1.0);
            assert!((f64::from(sum(&x)) - exact).abs() < tolerance, "sum of {n}");
            assert!((f64::from(dot(&x, &y)) - product).abs() < tolerance, "dot of {n}");
        }
    }

    #[test]
    fn sixteen_million_ones_do_not_stall_at_the_precision_of_f32() {
        // A running sum would stop at 2²⁴, where adding 1 changes nothing.
        assert_eq!(sum(&vec![1.0_f32; (1 << 24) + 4096]), 16_781_312.0);
    }

    #[test]
    fn sums_along_an_axis_agree_with_the_definition() {
        for (outer, n, inner) in [
            (0, 3, 2),
            (2, 0, 3),
            (2, 3, 0),
            (3, 5, 1),
            (1, 7, 3),
            (2, 9, 11),
            (2, 3000, 7),
            (5, 1, 4),
        ] {
            let x = noise::<f64>(outer * n * inner, 3);
            let (mut plain, mut squares) = (vec![0.0; outer * inner], vec![0.0; outer * inner]);
            for o in 0..outer {
                for k in 0..n {
                    for i in 0..inner {
                        let x = x[(o * n + k) * inner + i];
                        plain[o * inner + i] += x;
                        squares[o * inner + i] += x * x;
                    }
                }
            }
            let mut out = unwritten(outer * inner);
            sum_axis(&x, outer, n, inner, &mut out);
            assert_close(&out, &plain, 1e-11);
            square_sum_axis(&x, outer, n, inner, &mut out);
            assert_close(&out, &squares, 1e-11);
        }
    }

    #[test]
    fn threads_do_not_change_a_sum() {
        let x = noise::<f32>(300_000, 4);
        assert_same_bits_for_any_number_of_threads(|| vec![sum(&x), dot(&x, &x)]);
        for (outer, n, inner) in [(1, 30_000, 10), (1, 300, 1000), (300, 1000, 1), (30, 10, 1000)] {
            assert_same_bits_for_any_number_of_threads(|| {
                let mut out = unwritten(outer * inner);
                sum_axis(&x, outer, n, inner, &mut out);
                out
            });
        }
    }

    #[test]
    fn ten_million_tenths_are_a_million_along_any_axis() {
        let (n, tenth) = (10_000_000, 0.1_f32);
        let x = vec![tenth; n];
        // In f32 the nearest to n times the f32 tenth; the next is 0.0625 away.
        let want = (n as f64 * f64::from(tenth)) as f32;
        assert_eq!((sum(&x), want), (want, 1_000_000.0));
        assert_eq!(dot(&x, &vec![1.0; n]), want);
        for (outer, rows, inner) in [(1, n, 1), (1, n / 2, 2), (1, n / 8, 8), (2, n / 4, 2)] {
            let mut out = unwritten(outer * inner);
            sum_axis(&x, outer, rows, inner, &mut out);
            let want = (rows as f64 * f64::from(tenth)) as f32;
            assert_eq!(out, vec![want; outer * inner], "{rows} rows");
            square_sum_axis(&x, outer, rows, inner, &mut out);
            let want = (rows as f64 * f64::from(tenth).powi(2)) as f32;
            assert_eq!(out, vec![want; outer * inner], "{rows} rows");
        }
    }

    #[test]
    fn a_mean_is_scaled_before_it_is_rounded() {
        let mut mean = [0.0_f32; 2];
        scaled_sum_axis(&[3e38_f32, -3e38, 3e38, -3e38], (1, 2, 2), 0.5, &mut mean);
        assert_eq!(mean, [3e38, -3e38]);
    }
}
