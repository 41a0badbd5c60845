//! The matrix product C = α·A·B + β·C, and the ladder that leads to a fast one.
//!
//! | rung              | changes                                                       | gain |
//! |-------------------|---------------------------------------------------------------|------|
//! | [`mod@reference`] | three loops, the definition                                   | 1    |
//! | [`mod@blocked`]   | a tile of B is copied to contiguous memory and stays in cache | 8.5  |
//! | [`mod@packed`]    | both operands in panels, a tile of C in registers, vector instructions chosen at run time | 46 |
//! | [`sequential()`]  | the library's: tuned for the caches that it finds             | 58   |
//! | [`gemm()`]        | the same with threads                                         | 62   |
//!
//! The gain over the first rung: `kernel/gemm` of `benches/kernels.rs`, 256³ f32, the median of three
//! runs on an EPYC 7003 (AVX2), two cores, 2026-11-22.
//!
//! The rung in use is the last, by `gemm-f32` and `gemm-f64` (`library.rs`). All rungs take the same [`Matrix`] views with
//! any strides, and are tested against the first. The library packs an operand whose columns are
//! contiguous one number at a time; one that is used often is therefore turned first, in squares
//! ([`transpose()`]), which takes a few hundredths of the product's time.

pub mod blocked;
#[doc(hidden)]
pub mod library;
pub mod packed;
pub mod reference;

use gemm_common::Parallelism;

use crate::float::Float;
use crate::parallel;
use crate::pool::{self, Buffer};
use crate::sizes::{elements, extent};
use crate::transpose::transpose;

/// Products of fewer multiplications than this stay on the calling thread.
const PARALLEL_WORK: usize = 1 << 20;

/// A transposed operand that is used by at least as many rows or columns is turned first.
const WORTH_TURNING: usize = 96;

/// The columns of a, and rows of b, that the library copies at a time (`kernel_params` of gemm-common 0.19).
const DEPTH: usize = 512;

/// The rows and columns by which its copies are longer.
const PADDING: usize = 128;

/// A matrix in memory that somebody else owns, with any strides.
///
/// # Example
/// ```
/// use alcyon_kernels::gemm::Matrix;
/// let a = Matrix::new(&[1, 2, 3, 4, 5, 6], 2, 3);
/// assert_eq!((a.get(0, 2), a.t().get(2, 0)), (3, 3));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    row_stride: usize,
    col_stride: usize,
}

impl<'a, T: Copy> Matrix<'a, T> {
    /// A contiguous row-major matrix.
    ///
    /// # Panics
    /// If `data` has fewer than rows · cols elements.
    #[must_use]
    #[track_caller]
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Self {
        Self::strided(data, rows, cols, cols, 1)
    }

    /// A matrix whose element (i, j) is `data[i·row_stride + j·col_stride]`.
    ///
    /// # Panics
    /// If the last element lies outside of `data`.
    #[must_use]
    #[track_caller]
    pub fn strided(
        data: &'a [T],
        rows: usize,
        cols: usize,
        row_stride: usize,
        col_stride: usize,
    ) -> Self {
        let end = extent(&[rows, cols], &[row_stride, col_stride]);
        assert!(
            end.is_some_and(|end| end <= data.len()),
            "Matrix: [{rows}, {cols}] with strides ({row_stride}, {col_stride}) leaves {} elements",
            data.len()
        );
        Self { data, rows, cols, row_stride, col_stride }
    }

    /// The transpose, without copying.
    #[must_use]
    pub fn t(self) -> Self {
        Self {
            data: self.data,
            rows: self.cols,
            cols: self.rows,
            row_stride: self.col_stride,
            col_stride: self.row_stride,
        }
    }

    /// The columns `from..to`, without copying.
    ///
    /// # Panics
    /// If there are no such columns.
    #[must_use]
    pub fn columns(self, from: usize, to: usize) -> Self {
        assert!(from <= to && to <= self.cols, "Matrix: columns {from}..{to} of {}", self.cols);
        let start = from.saturating_mul(self.col_stride).min(self.data.len());
        Self { data: &self.data[start..], cols: to - from, ..self }
    }

    /// The number of rows.
    #[must_use]
    pub fn rows(self) -> usize {
        self.rows
    }

    /// The number of columns.
    #[must_use]
    pub fn cols(self) -> usize {
        self.cols
    }

    /// The element in row i and column j.
    ///
    /// # Panics
    /// If there is no such element in memory.
    #[must_use]
    pub fn get(self, i: usize, j: usize) -> T {
        self.data[i * self.row_stride + j * self.col_stride]
    }
}

/// C = α·A·B + β·C, by the fastest rung. Large products use all threads; the result does not
/// depend on how many there are.
///
/// # Shape
/// a: \[m, k\] · b: \[k, n\] · c: \[m, n\], contiguous. With β = 0, C is not read.
///
/// # Panics
/// If the shapes do not fit.
///
/// # Example
/// ```
/// use alcyon_kernels::gemm::{Matrix, gemm};
/// let (a, b) = ([1.0, 2.0, 3.0, 4.0], [5.0, 6.0]);
/// let mut c = [f64::NAN; 2];
/// gemm(1.0, Matrix::new(&a, 2, 2), Matrix::new(&b, 2, 1), 0.0, &mut c);
/// assert_eq!(c, [17.0, 39.0]);
/// ```
pub fn gemm<T: Float>(alpha: T, a: Matrix<'_, T>, b: Matrix<'_, T>, beta: T, c: &mut [T]) {
    check(a, b, c);
    into_strided(false, alpha, a, b, beta, (c, b.cols));
}

/// [`gemm()`] on the calling thread alone: for products that are parallel among themselves.
///
/// # Panics
/// If the shapes do not fit.
pub fn sequential<T: Float>(alpha: T, a: Matrix<'_, T>, b: Matrix<'_, T>, beta: T, c: &mut [T]) {
    check(a, b, c);
    into_strided(true, alpha, a, b, beta, (c, b.cols));
}

/// Cᵢ = Aᵢ·Bᵢ for a batch of products, each of them `size` elements and `work` multiplications. Small
/// products are shared out among the threads, large ones are each done by all of them.
///
/// # Shape
/// c: \[batch, size\] · `operands(i)`: Aᵢ and Bᵢ
///
/// # Panics
/// If a shape does not fit.
///
/// # Example
/// ```
/// use alcyon_kernels::gemm::{Matrix, batch};
/// let (a, b, mut c) = ([1.0, 2.0], [3.0, 4.0], [0.0; 2]);
/// batch(&mut c, 1, 1, |i| (Matrix::new(&a[i..], 1, 1), Matrix::new(&b[i..], 1, 1)));
/// assert_eq!(c, [3.0, 8.0]);
/// ```
pub fn batch<'a, T: Float>(
    c: &mut [T],
    size: usize,
    work: usize,
    operands: impl Fn(usize) -> (Matrix<'a, T>, Matrix<'a, T>) + Sync + Send,
) {
    let size = size.max(1);
    if work < PARALLEL_WORK {
        // An element of a loop is worth about eight multiplications.
        return parallel::rows(c, size, work / 8, |i, c| {
            let (a, b) = operands(i);
            sequential(T::ONE, a, b, T::ZERO, c);
        });
    }
    for (i, c) in c.chunks_exact_mut(size).enumerate() {
        let (a, b) = operands(i);
        gemm(T::ONE, a, b, T::ZERO, c);
    }
}

/// C = α·A·B + β·C where the rows of C begin `c.1` elements apart; on the calling thread if `alone`.
pub(crate) fn into_strided<T: Float>(
    alone: bool,
    alpha: T,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    beta: T,
    (c, stride): (&mut [T], usize),
) {
    let (m, k, n) = (a.rows, a.cols, b.cols);
    assert_eq!(k, b.rows, "gemm: columns of a, rows of b");
    if m == 0 || n == 0 {
        return;
    }
    let end = extent(&[m, n], &[stride, 1]);
    assert!(n <= stride && end.is_some_and(|end| end <= c.len()), "gemm: c is too short");
    if k == 0 {
        return c.chunks_mut(stride).take(m).for_each(|row| scale(beta, &mut row[..n]));
    }
    let (mut room_a, mut room_b) = (None, None);
    let (a, b) = (turned(a, n, &mut room_a), turned(b, m, &mut room_b));
    let work = m.saturating_mul(k).saturating_mul(n);
    let threads = if alone || work < PARALLEL_WORK || parallel::threads() == 1 {
        Parallelism::None
    } else {
        Parallelism::Rayon(0)
    };
    // The library ends the process where it finds no memory for its copies of a and b.
    let copied = m.saturating_add(n).saturating_add(PADDING).saturating_mul(k.min(DEPTH));
    pool::workspace(copied.saturating_mul(size_of::<T>()));
    // SAFETY: the assertion above has made sure, without wrapping, that m rows of n elements, `stride` apart, lie
    // inside c and do not overlap each other, and c is borrowed mutably, so nothing else does. a is [m, k] and b
    // [k, n], none of the three 0 here.
    unsafe { library::product(alpha, a, b, beta, (c.as_mut_ptr(), stride), threads) };
}

/// The same matrix in contiguous rows, written to `room`, if it lies in contiguous columns and each of its
/// elements is used often.
fn turned<'a, T: Float>(
    x: Matrix<'a, T>,
    uses: usize,
    room: &'a mut Option<Buffer<T>>,
) -> Matrix<'a, T> {
    let small = x.rows < 8 || x.cols < 8;
    if x.row_stride != 1 || x.col_stride < x.rows || small || uses < WORTH_TURNING {
        return x;
    }
    let room = room.insert(Buffer::unspecified(x.rows * x.cols));
    transpose(x.data, (x.cols, x.rows), x.col_stride, room);
    Matrix::new(room, x.rows, x.cols)
}

/// The checked sizes (m, k, n).
fn check<T: Float>(a: Matrix<'_, T>, b: Matrix<'_, T>, c: &[T]) -> (usize, usize, usize) {
    assert_eq!(a.cols, b.rows, "gemm: columns of a, rows of b");
    assert_eq!(c.len(), elements("gemm", [a.rows, b.cols]), "gemm: length of c");
    (a.rows, a.cols, b.cols)
}

/// c = β·c, without reading c when β is 0.
fn scale<T: Float>(beta: T, c: &mut [T]) {
    if beta == T::ZERO {
        c.fill(T::ZERO);
    } else if beta != T::ONE {
        c.iter_mut().for_each(|c| *c *= beta);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{
        assert_close, assert_same_bits_for_any_number_of_threads, noise, unwritten,
    };

    type Rung<T> = fn(T, Matrix<'_, T>, Matrix<'_, T>, T, &mut [T]);

    /// A matrix [rows, cols] stored plainly, transposed, or with gaps.
    fn stored<T: Copy>(x: &[T], rows: usize, cols: usize, how: usize) -> Matrix<'_, T> {
        match how {
            0 => Matrix::new(x, rows, cols),
            1 => Matrix::new(x, cols, rows).t(),
            _ => Matrix::strided(x, rows, cols, 3 * cols + 2, 3),
        }
    }

    fn agrees_with_reference<T: Float>(rung: Rung<T>, tolerance: f64) {
        let x = noise::<T>(13 * 50, 1);
        let y = noise::<T>(13 * 50, 2);
        let z = noise::<T>(13 * 13, 3);
        let (alpha, beta) = (T::of(0.7), T::of(-1.3));
        for m in 0..12 {
            for k in 0..12 {
                for n in 0..12 {
                    let how = (m + 2 * k + n) % 9;
                    let (a, b) = (stored(&x, m, k, how % 3), stored(&y, k, n, how / 3));
                    let (mut want, mut got) = (unwritten(m * n), unwritten(m * n));
                    reference::gemm(T::ONE, a, b, T::ZERO, &mut want);
                    rung(T::ONE, a, b, T::ZERO, &mut got);
                    assert_close(&got, &want, tolerance);
                    want.copy_from_slice(&z[..m * n]);
                    got.copy_from_slice(&z[..m * n]);
                    reference::gemm(alpha, a, b, beta, &mut want);
                    rung(alpha, a, b, beta, &mut got);
                    assert_close(&got, &want, tolerance);
                }
            }
        }
    }

    #[test]
    fn every_rung_agrees_with_the_reference_on_small_sizes_and_odd_strides() {
        agrees_with_reference::<f64>(gemm, 1e-13);
        agrees_with_reference::<f32>(gemm, 1e-5);
        agrees_with_reference::<f64>(blocked::gemm, 1e-13);
        agrees_with_reference::<f32>(sequential, 1e-5);
        agrees_with_reference::<f64>(packed::gemm, 1e-13);
        agrees_with_reference::<f32>(packed::gemm, 1e-5);
    }

    #[test]
    fn rungs_agree_beyond_the_size_of_a_tile() {
        for (m, k, n) in [(67, 301, 530), (130, 20, 2060)] {
            let (x, y) = (noise::<f64>(m * k, 1), noise::<f64>(k * n, 2));
            let (a, b) = (Matrix::new(&x, m, k), Matrix::new(&y, n, k).t());
            let mut want = unwritten(m * n);
            reference::gemm(1.0, a, b, 0.0, &mut want);
            for rung in [blocked::gemm as Rung<f64>, packed::gemm, gemm] {
                let mut got = unwritten(m * n);
                rung(1.0, a, b, 0.0, &mut got);
                assert_close(&got, &want, 1e-12);
            }
        }
    }

    #[test]
    fn threads_do_not_change_a_product() {
        let x = noise::<f32>(700 * 700, 9);
        for (m, k, n) in
            [(130, 700, 131), (700, 33, 61), (16, 700, 700), (1, 700, 700), (257, 257, 257)]
        {
            for (how_a, how_b) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
                assert_same_bits_for_any_number_of_threads(|| {
                    let mut c = unwritten(m * n);
                    gemm(1.0, stored(&x, m, k, how_a), stored(&x, k, n, how_b), 0.0, &mut c);
                    c
                });
            }
        }
    }

    #[test]
    #[should_panic(expected = "Matrix: [2, 3] with strides (3, 1) leaves 5 elements")]
    fn a_matrix_larger_than_its_memory_is_refused() {
        let _ = Matrix::new(&[1.0; 5], 2, 3);
    }
}
