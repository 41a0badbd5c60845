//! Systems with a lower triangular matrix L, and its inverse.
//!
//! All by halves: L = \[\[L₁₁, 0\], \[L₂₁, L₂₂\]\]. The work is then in products with L₂₁, which are as fast as
//! products are; what is left are blocks of [`SMALL`] rows. L begins at the first element of its slice, and its
//! rows are `stride` apart, so that a block of a matrix is an L, too.

use super::rows::{add_multiples, dot};
use crate::gemm::{Matrix, into_strided};

/// Rows of a block that is solved row by row.
const SMALL: usize = 16;

/// Columns of a triangular operand that are multiplied at once: of what lies above its diagonal, so much is 0.
pub(super) const PANEL: usize = 64;

/// Where a matrix of n > `SMALL` rows is cut.
pub(super) fn half(n: usize) -> usize {
    (n / 2).next_multiple_of(SMALL)
}

/// Some rows and columns of a matrix whose rows begin `stride` apart.
fn block(x: &[f64], rows: usize, columns: usize, stride: usize) -> Matrix<'_, f64> {
    Matrix::strided(x, rows, columns, stride, 1)
}

/// X ← L⁻¹X.
///
/// # Shape
/// l: \[n, n\] · x: \[n, columns\]; rows `l.1` and `x.1` apart.
pub(super) fn forward(l: (&[f64], usize), n: usize, x: (&mut [f64], usize), columns: usize) {
    let ((l, stride), (x, x_stride)) = (l, x);
    if columns == 1 && x_stride == 1 {
        for i in 0..n {
            x[i] = (x[i] - dot(&l[i * stride..i * stride + i], &x[..i])) / l[i * stride + i];
        }
        return;
    }
    if n > SMALL {
        let h = half(n);
        let (top, bottom) = x.split_at_mut(h * x_stride);
        forward((l, stride), h, (top, x_stride), columns);
        let below = block(&l[h * stride..], n - h, h, stride);
        into_strided(true, -1.0, below, block(top, h, columns, x_stride), 1.0, (bottom, x_stride));
        return forward((&l[h * stride + h..], stride), n - h, (bottom, x_stride), columns);
    }
    for i in 0..n {
        let (above, row) = x.split_at_mut(i * x_stride);
        let row = &mut row[..columns];
        let mut factors = [0.0; SMALL];
        for (factor, l) in factors.iter_mut().zip(&l[i * stride..i * stride + i]) {
            *factor = -l;
        }
        add_multiples(row, &factors[..i], above, x_stride);
        let inverse = 1.0 / l[i * stride + i];
        row.iter_mut().for_each(|x| *x *= inverse);
    }
}

/// X ← L⁻ᵀX; shapes as for [`forward`].
pub(super) fn backward(l: (&[f64], usize), n: usize, x: (&mut [f64], usize), columns: usize) {
    let ((l, stride), (x, x_stride)) = (l, x);
    if columns == 1 && x_stride == 1 {
        for i in (0..n).rev() {
            x[i] /= l[i * stride + i];
            let (above, solved) = x.split_at_mut(i);
            add_multiples(above, &[-solved[0]], &l[i * stride..], stride);
        }
        return;
    }
    if n > SMALL {
        let h = half(n);
        let (top, bottom) = x.split_at_mut(h * x_stride);
        backward((&l[h * stride + h..], stride), n - h, (bottom, x_stride), columns);
        let right = block(&l[h * stride..], n - h, h, stride).t();
        let solved = block(bottom, n - h, columns, x_stride);
        into_strided(true, -1.0, right, solved, 1.0, (top, x_stride));
        return backward((l, stride), h, (top, x_stride), columns);
    }
    for i in (0..n).rev() {
        let (row, below) = x.split_at_mut((i + 1) * x_stride);
        let row = &mut row[i * x_stride..i * x_stride + columns];
        let mut factors = [0.0; SMALL];
        for (k, factor) in factors[..n - i - 1].iter_mut().enumerate() {
            *factor = -l[(i + 1 + k) * stride + i];
        }
        if i + 1 < n {
            add_multiples(row, &factors[..n - i - 1], below, x_stride);
        }
        let inverse = 1.0 / l[i * stride + i];
        row.iter_mut().for_each(|x| *x *= inverse);
    }
}

/// out ← L⁻¹, into zeros.
///
/// # Shape
/// l, out: \[n, n\]; rows `stride` apart in both.
pub(super) fn invert(l: &[f64], n: usize, out: &mut [f64], stride: usize) {
    if n <= SMALL {
        (0..n).for_each(|i| out[i * stride + i] = 1.0);
        return forward((l, stride), n, (out, stride), n);
    }
    let h = half(n);
    let (top, bottom) = out.split_at_mut(h * stride);
    invert(l, h, top, stride);
    let last = &l[h * stride + h..];
    invert(last, n - h, &mut bottom[h..], stride);
    // −L₂₂⁻¹(L₂₁·L₁₁⁻¹), and of a panel of L₁₁⁻¹ only the rows from its diagonal on.
    for from in (0..h).step_by(PANEL) {
        let width = PANEL.min(h - from);
        let left = block(&l[h * stride + from..], n - h, h - from, stride);
        let right = block(&top[from * stride + from..], h - from, width, stride);
        into_strided(true, -1.0, left, right, 0.0, (&mut bottom[from..], stride));
    }
    forward((last, stride), n - h, (bottom, stride), h);
}

/// The lower triangle of MᵀM for a lower triangular M; what lies above it stays as it is or becomes the same.
///
/// # Shape
/// m, out: \[n, n\]
pub(super) fn gram(m: &[f64], n: usize, out: &mut [f64]) {
    for from in (0..n).step_by(PANEL) {
        let width = PANEL.min(n - from);
        let rows = block(&m[from * n..], n - from, from + width, n);
        let own = rows.columns(from, from + width);
        into_strided(true, 1.0, own.t(), rows, 0.0, (&mut out[from * n..], n));
    }
}
