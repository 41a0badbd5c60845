//! A = L·Lᵀ for a symmetric positive definite matrix; with it A⁻¹ and A⁻¹B.
//!
//! Only the lower triangle of A is read.

use super::rows::add_multiples;
use super::triangular::{PANEL, backward, forward, gram, half, invert};
use super::{LinalgError, check, check_length, copy, expect_matrices, zeros};
use crate::gemm::{Matrix, into_strided};
use crate::pool::{Buffer, expect_room, or_out_of_memory};
use crate::reduce::dot;
use crate::transpose::transpose;

/// Rows of a block that is factored row by row.
const SMALL: usize = 32;

/// The lower triangular L with A = L·Lᵀ; zeros above the diagonal.
///
/// # Shape
/// a: \[n, n\] · result: \[n, n\]
///
/// # Errors
/// [`LinalgError::NotPositiveDefinite`] with the first pivot that is not positive, [`LinalgError::Length`],
/// [`LinalgError::NotFinite`], [`LinalgError::OutOfMemory`].
///
/// # Example
/// ```
/// let l = alcyon_kernels::linalg::cholesky(&[4.0, 2.0, 2.0, 5.0], 2)?;
/// assert_eq!(l, [2.0, 0.0, 1.0, 2.0]);
/// # Ok::<(), alcyon_kernels::linalg::LinalgError>(())
/// ```
pub fn cholesky(a: &[f64], n: usize) -> Result<Vec<f64>, LinalgError> {
    check("cholesky", a, n, 2)?;
    let mut l = copy(a)?;
    or_out_of_memory(|| factor(&mut l, n, n))?
        .map_err(|(pivot, value)| LinalgError::NotPositiveDefinite { pivot, value })?;
    for (i, row) in l.chunks_exact_mut(n.max(1)).enumerate() {
        row[i + 1..].fill(0.0);
    }
    Ok(l)
}

/// The lower triangle becomes L; rows begin `stride` apart. Else the first pivot that is not positive, and its value.
///
/// By halves: L₁₁L₁₁ᵀ = A₁₁, L₂₁ = A₂₁L₁₁⁻ᵀ, L₂₂L₂₂ᵀ = A₂₂ − L₂₁L₂₁ᵀ.
fn factor(a: &mut [f64], stride: usize, n: usize) -> Result<(), (usize, f64)> {
    if n <= SMALL {
        return factor_rows(a, stride, n);
    }
    let (h, rest) = (half(n), n - half(n));
    factor(a, stride, h)?;
    let (top, bottom) = a.split_at_mut(h * stride);
    // L₂₁ᵀ, whose rows are as long as there are rows below.
    let mut side = Buffer::unspecified(h * rest);
    transpose(bottom, (rest, h), stride, &mut side);
    forward((top, stride), h, (&mut side, rest), rest);
    for (i, row) in bottom.chunks_mut(stride).take(rest).enumerate() {
        row[..h].iter_mut().zip(side[i..].iter().step_by(rest)).for_each(|(to, from)| *to = *from);
    }
    let side = Matrix::new(&side, h, rest);
    for from in (0..rest).step_by(PANEL) {
        let to = rest.min(from + PANEL);
        let (left, right) = (side.columns(from, to).t(), side.columns(0, to));
        into_strided(true, -1.0, left, right, 1.0, (&mut bottom[from * stride + h..], stride));
    }
    factor(&mut bottom[h..], stride, rest).map_err(|(pivot, value)| (h + pivot, value))
}

/// [`factor`] row by row of U = Lᵀ, so that what is subtracted from a row are rows.
fn factor_rows(a: &mut [f64], stride: usize, n: usize) -> Result<(), (usize, f64)> {
    let mut u = [0.0; SMALL * SMALL];
    for (i, row) in a.chunks(stride.max(1)).take(n).enumerate() {
        (0..=i).for_each(|j| u[j * SMALL + i] = row[j]);
    }
    for i in 0..n {
        let (above, row) = u.split_at_mut(i * SMALL);
        let row = &mut row[i..n];
        let mut factors = [0.0; SMALL];
        for (k, factor) in factors[..i].iter_mut().enumerate() {
            *factor = -above[k * SMALL + i];
        }
        add_multiples(row, &factors[..i], above.get(i..).unwrap_or_default(), SMALL);
        let pivot = row[0];
        if pivot.is_nan() || pivot <= 0.0 {
            return Err((i, pivot));
        }
        let scale = 1.0 / pivot.sqrt();
        row.iter_mut().for_each(|x| *x *= scale);
        row[0] = pivot.sqrt();
    }
    for (i, row) in a.chunks_mut(stride.max(1)).take(n).enumerate() {
        (0..=i).for_each(|j| row[j] = u[j * SMALL + i]);
    }
    Ok(())
}

/// [`cholesky()`] by the definition, row by row.
///
/// # Errors
/// As [`cholesky()`].
pub fn reference_cholesky(a: &[f64], n: usize) -> Result<Vec<f64>, LinalgError> {
    check("reference_cholesky", a, n, 1)?;
    let mut l = vec![0.0; n * n];
    for i in 0..n {
        for j in 0..=i {
            let done: f64 = (0..j).map(|k| l[i * n + k] * l[j * n + k]).sum();
            let rest = a[i * n + j] - done;
            if i > j {
                l[i * n + j] = rest / l[j * n + j];
            } else if rest > 0.0 {
                l[i * n + i] = rest.sqrt();
            } else {
                return Err(LinalgError::NotPositiveDefinite { pivot: i, value: rest });
            }
        }
    }
    Ok(l)
}

/// A⁻¹, exactly symmetric. The result is checked: ‖A(A⁻¹v) − v‖ against ‖v‖ for one vector v, which
/// costs n² where the inverse costs n³.
///
/// # Shape
/// a: \[n, n\], symmetric · result: \[n, n\]
///
/// # Errors
/// As [`cholesky()`]; [`LinalgError::NoConvergence`] if the inverse has not even two digits: A is
/// singular but for rounding.
///
/// # Example
/// ```
/// let inverse = alcyon_kernels::linalg::cholesky_inverse(&[4.0, 0.0, 0.0, 0.5], 2)?;
/// assert!((inverse[0] - 0.25).abs() < 1e-15 && (inverse[3] - 2.0).abs() < 1e-15);
/// # Ok::<(), alcyon_kernels::linalg::LinalgError>(())
/// ```
pub fn cholesky_inverse(a: &[f64], n: usize) -> Result<Vec<f64>, LinalgError> {
    let l = cholesky(a, n)?;
    expect_matrices(a, 2)?;
    // A⁻¹ = L⁻ᵀL⁻¹
    let mut inverse = zeros(n * n)?;
    or_out_of_memory(|| {
        let mut root = Buffer::zeros(n * n);
        invert(&l, n, &mut root, n);
        gram(&root, n, &mut inverse);
    })?;
    for i in 0..n {
        for j in 0..i {
            inverse[j * n + i] = inverse[i * n + j];
        }
    }
    let residual = residual(a, &inverse, n);
    if residual <= TWO_DIGITS {
        Ok(inverse)
    } else {
        let (routine, tolerance) = ("cholesky_inverse", TWO_DIGITS);
        Err(LinalgError::NoConvergence { routine, residual, tolerance })
    }
}

/// The residual of an inverse that is worth using.
const TWO_DIGITS: f64 = 1e-2;

/// ‖A(A⁻¹v) − v‖ / ‖v‖ for v = (1, −1/2, 1/3, −1/4, …), of the lower triangle of A.
fn residual(a: &[f64], inverse: &[f64], n: usize) -> f64 {
    let sign = |i: usize| if i.is_multiple_of(2) { 1.0 } else { -1.0 };
    let v: Vec<f64> = (0..n).map(|i| sign(i) / (i + 1) as f64).collect();
    let x: Vec<f64> = inverse.chunks_exact(n.max(1)).map(|row| dot(row, &v)).collect();
    // A row of the lower triangle stands for a row and a column.
    let mut back = vec![0.0; n];
    for (i, row) in a.chunks_exact(n.max(1)).enumerate() {
        back[i] += dot(&row[..=i], &x[..=i]);
        back[..i].iter_mut().zip(row).for_each(|(back, a)| *back += a * x[i]);
    }
    back.iter_mut().zip(&v).for_each(|(back, v)| *back -= v);
    let length = dot(&v, &v).sqrt();
    if n == 0 { 0.0 } else { dot(&back, &back).sqrt() / length }
}

/// X with L·Lᵀ·X = B, for an L from [`cholesky()`].
///
/// # Shape
/// l: \[n, n\] · b, result: \[n, columns\]
///
/// # Errors
/// [`LinalgError::Length`] if L is not \[n, n\] or B not \[n, columns\].
///
/// # Example
/// ```
/// let x = alcyon_kernels::linalg::cholesky_solve(&[2.0], 1, &[4.0, 8.0], 2)?;
/// assert_eq!(x, [1.0, 2.0]);
/// # Ok::<(), alcyon_kernels::linalg::LinalgError>(())
/// ```
pub fn cholesky_solve(
    l: &[f64],
    n: usize,
    b: &[f64],
    columns: usize,
) -> Result<Vec<f64>, LinalgError> {
    const ROUTINE: &str = "cholesky_solve";
    check_length(ROUTINE, l.len(), [n, n])?;
    check_length(ROUTINE, b.len(), [n, columns])?;
    expect_room(size_of_val(b).saturating_mul(2))?;
    let mut x = copy(b)?;
    or_out_of_memory(|| {
        forward((l, n), n, (&mut x, columns), columns);
        backward((l, n), n, (&mut x, columns), columns);
    })?;
    Ok(x)
}

/// A⁻¹B for a symmetric positive definite A.
///
/// # Shape
/// a: \[n, n\] · b, result: \[n, columns\]
///
/// # Errors
/// As [`cholesky()`] and [`cholesky_solve`].
///
/// # Example
/// ```
/// let x = alcyon_kernels::linalg::solve(&[2.0, 0.0, 0.0, 4.0], 2, &[2.0, 8.0], 1)?;
/// assert!((x[0] - 1.0).abs() < 1e-15 && (x[1] - 2.0).abs() < 1e-15);
/// # Ok::<(), alcyon_kernels::linalg::LinalgError>(())
/// ```
pub fn solve(a: &[f64], n: usize, b: &[f64], columns: usize) -> Result<Vec<f64>, LinalgError> {
    cholesky_solve(&cholesky(a, n)?, n, b, columns)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::examples::{identity, positive, product};
    use crate::oracle::{assert_close, noise};

    #[test]
    fn the_factor_is_unique_so_both_versions_agree() {
        for n in (0..12).chain([33, 70, 200]) {
            let a = positive(n, 1, 0.1);
            let l = cholesky(&a, n).unwrap();
            assert_close(&l, &reference_cholesky(&a, n).unwrap(), 1e-12);
            let transpose: Vec<f64> = (0..n * n).map(|at| l[at % n * n + at / n]).collect();
            assert_close(&product(&l, &transpose, n), &a, 1e-12);
        }
    }

    #[test]
    fn the_inverse_times_the_matrix_is_the_identity() {
        for n in (0..12).chain([33, 70, 200]) {
            let a = positive(n, 2, 0.1);
            let inverse = cholesky_inverse(&a, n).unwrap();
            assert_close(&product(&a, &inverse, n), &identity(n), 1e-10);
            assert!((0..n * n).all(|at| inverse[at] == inverse[at % n * n + at / n]));
            assert_close(&solve(&a, n, &identity(n), n).unwrap(), &inverse, 1e-10);
        }
    }

    #[test]
    fn an_inverse_without_digits_is_refused() {
        // Hilbert's matrix of order 16 has a condition number of about 10²², far beyond f64's 10¹⁶;
        // of order 7 it is 10⁸ and eight digits are left.
        let hilbert = |n: usize| -> Vec<f64> {
            (0..n * n).map(|at| 1.0 / (at / n + at % n + 1) as f64).collect()
        };
        assert!(cholesky_inverse(&hilbert(7), 7).is_ok());
        let got = cholesky_inverse(&hilbert(16), 16);
        let typed = matches!(
            got,
            Err(LinalgError::NoConvergence { .. } | LinalgError::NotPositiveDefinite { .. })
        );
        assert!(typed, "{got:?}");
        // The check itself sees an inverse that is off by a tenth.
        let (n, a) = (5, positive(5, 2, 0.1));
        let inverse = cholesky_inverse(&a, n).unwrap();
        let wrong: Vec<f64> = inverse.iter().map(|x| 1.1 * x).collect();
        assert!(residual(&a, &inverse, n) < 1e-12);
        assert!((residual(&a, &wrong, n) - 0.1).abs() < 1e-10);
    }

    #[test]
    fn a_solution_satisfies_its_equation_for_any_number_of_columns() {
        let (n, a) = (6, positive(6, 3, 0.1));
        for columns in 0..4 {
            let b = noise::<f64>(n * columns, 4);
            let x = solve(&a, n, &b, columns).unwrap();
            let back: Vec<f64> = (0..n * columns)
                .map(|at| {
                    (0..n).map(|k| a[at / columns * n + k] * x[k * columns + at % columns]).sum()
                })
                .collect();
            assert_close(&back, &b, 1e-11);
        }
    }

    #[test]
    fn an_indefinite_matrix_is_reported_with_its_pivot() {
        let got = cholesky_inverse(&[1.0, 0.0, 0.0, 0.0, 1.0, 2.0, 0.0, 2.0, 1.0], 3);
        assert_eq!(got, Err(LinalgError::NotPositiveDefinite { pivot: 2, value: -3.0 }));
        let got = cholesky(&[f64::NAN], 1);
        assert!(matches!(got, Err(LinalgError::NotFinite { row: 0, column: 0, .. })));
    }
}
