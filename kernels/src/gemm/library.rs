//! The rung in use: `gemm-f32` and `gemm-f64`, of which the `gemm` crate is the front. They are called without
//! it, since it brings products of complex numbers, which take longer to compile than those of real ones.

use gemm_common::Parallelism;

use super::Matrix;
use crate::float::Float;

/// A product of the library: sizes m, n and k; C with its strides and whether it is read; A and B with theirs; the
/// factors of C and of the product; whether to conjugate; threads. Of two strides the columns' comes first. It is
/// fastest where columns of C are contiguous.
#[doc(hidden)]
pub type Product<T> = unsafe fn(
    usize,
    usize,
    usize,
    *mut T,
    isize,
    isize,
    bool,
    *const T,
    isize,
    isize,
    *const T,
    isize,
    isize,
    T,
    T,
    bool,
    bool,
    bool,
    Parallelism,
);

/// C = α·A·B + β·C, where the rows of C begin `stride` apart and C is read only if β is not 0.
///
/// # Safety
/// Rows of C as long as those of B, `stride` apart, lie in the memory behind `c` for every row of A, which nothing
/// else uses. A and B have as many columns and rows, and at least one.
pub(super) unsafe fn product<T: Float>(
    alpha: T,
    a: Matrix<'_, T>,
    b: Matrix<'_, T>,
    beta: T,
    (c, stride): (*mut T, usize),
    threads: Parallelism,
) {
    // Greater than an `isize` is only a stride that no step is made by.
    let step = |stride: usize| isize::try_from(stride).unwrap_or(0);
    let strides = |x: Matrix<'_, T>| (step(x.col_stride), step(x.row_stride));
    // Rows of C are contiguous, so it is Cᵀ = α·Bᵀ·Aᵀ + β·Cᵀ that has contiguous columns.
    let turned = stride > 1;
    let (left, right) = if turned { (b.t(), a.t()) } else { (a, b) };
    let c_strides = if turned { (step(stride), 1) } else { (1, step(stride)) };
    let ((left_columns, left_rows), (right_columns, right_rows)) = (strides(left), strides(right));
    // SAFETY: the caller's promise about C. Every element of A and B is inside of its slice: `Matrix::strided` has
    // made sure, without wrapping, that the last one is (the greatest offset, strides being unsigned), and slices are
    // no longer than `isize::MAX`.
    unsafe {
        T::product()(
            left.rows,
            right.cols,
            left.cols,
            c,
            c_strides.0,
            c_strides.1,
            beta != T::ZERO,
            left.data.as_ptr(),
            left_columns,
            left_rows,
            right.data.as_ptr(),
            right_columns,
            right_rows,
            beta,
            alpha,
            false,
            false,
            false,
            threads,
        );
    }
}
