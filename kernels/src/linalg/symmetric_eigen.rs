//! A = Q·diag(λ)·Qᵀ for a symmetric matrix, with one answer where mathematics allows several.
//!
//! Eigenvalues ascend. Each eigenvector has the sign that makes its entry of largest magnitude
//! positive (the first such entry in a tie), so that a basis does not flip between two refreshes.
//! The result is checked: ‖AQ − Q·diag(λ)‖ against ‖A‖ (Frobenius).
//!
//! Three steps: reflections make A tridiagonal (`tridiagonal.rs`), that matrix is divided and conquered
//! (`divide.rs`), and the reflections turn its eigenvectors into those of A.

use super::rows::power_of_two;
use super::tridiagonal::Tridiagonal;
use super::{LinalgError, check, copy, divide, symmetrise, zeros};
use crate::gemm::{Matrix, gemm};
use crate::pool::{Buffer, OutOfMemory, or_out_of_memory};
use crate::reduce::dot;
use crate::transpose::transpose;

/// Eigenvalues and eigenvectors of a symmetric matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Eigen {
    /// λ, ascending: \[n\].
    pub values: Vec<f64>,
    /// Q, row-major \[n, n\]: column j belongs to `values[j]`.
    pub vectors: Vec<f64>,
}

/// The eigenvalues and eigenvectors of (a + aᵀ)/2.
///
/// # Shape
/// a: \[n, n\]
///
/// # Errors
/// [`LinalgError::Length`], [`LinalgError::NotFinite`], [`LinalgError::OutOfMemory`];
/// [`LinalgError::NoConvergence`] if the
/// iteration or the check of its result fails.
///
/// # Example
/// ```
/// let eigen = alcyon_kernels::linalg::symmetric_eigen(&[2.0, 1.0, 1.0, 2.0], 2)?;
/// assert!((eigen.values[0] - 1.0).abs() < 1e-14 && (eigen.values[1] - 3.0).abs() < 1e-14);
/// # Ok::<(), alcyon_kernels::linalg::LinalgError>(())
/// ```
pub fn symmetric_eigen(a: &[f64], n: usize) -> Result<Eigen, LinalgError> {
    const ROUTINE: &str = "symmetric_eigen";
    check(ROUTINE, a, n, 8)?;
    if n == 0 {
        return Ok(Eigen { values: Vec::new(), vectors: Vec::new() });
    }
    let mut a = copy(a)?;
    symmetrise(&mut a, n);
    let live: Vec<usize> =
        (0..n).filter(|i| a[i * n..(i + 1) * n].iter().any(|x| *x != 0.0)).collect();
    if live.len() < n {
        let part: Vec<f64> = live
            .iter()
            .flat_map(|i| live.iter().map(|j| a[i * n + j]).collect::<Vec<_>>())
            .collect();
        return Ok(with_zeros(&symmetric_eigen(&part, live.len())?, &live, n));
    }
    let unit = power_of_two(&a);
    a.iter_mut().for_each(|x| *x /= unit);
    let norm = dot(&a, &a).sqrt();
    let tolerance = 1e-13 * (n as f64 + 10.0) * norm;
    let mut least = f64::INFINITY;
    // Where noise beside zeros does not converge, it does beside the norm.
    for shift in [0.0, norm] {
        let Some(mut eigen) = decompose(&a, shift, n)? else { continue };
        eigen.values.iter_mut().for_each(|x| *x -= shift);
        least = or_out_of_memory(|| residual(&a, &eigen, n))?;
        if least <= tolerance {
            eigen.values.iter_mut().for_each(|x| *x *= unit);
            return Ok(eigen);
        }
    }
    let (residual, tolerance) = (least * unit, tolerance * unit);
    Err(LinalgError::NoConvergence { routine: ROUTINE, residual, tolerance })
}

/// Eigenvalues and eigenvectors of A + shift, if the iterations end.
fn decompose(a: &[f64], shift: f64, n: usize) -> Result<Option<Eigen>, OutOfMemory> {
    let mut vectors = zeros(n * n)?;
    or_out_of_memory(|| {
        let mut shifted = Buffer::unspecified(n * n);
        shifted.copy_from_slice(a);
        shifted.iter_mut().step_by(n + 1).for_each(|x| *x += shift);
        let mut reduced = Tridiagonal::of(shifted, n);
        let mut values = std::mem::take(&mut reduced.diagonal);
        let mut rows = Buffer::zeros(n * n);
        let order = divide::eigen(&mut values, &mut reduced.beside, &mut rows)?;
        let mut sorted = Buffer::unspecified(n * n);
        for (row, i) in sorted.chunks_exact_mut(n).zip(&order) {
            row.copy_from_slice(&rows[i * n..(i + 1) * n]);
        }
        reduced.back(&mut sorted, n);
        transpose(&sorted, (n, n), n, &mut vectors);
        fix_signs(&mut vectors, n);
        Some(Eigen { values: order.iter().map(|i| values[*i]).collect(), vectors })
    })
}

/// Rows and columns of zeros back in their places: each is an eigenvector of 0. A table of which few rows have
/// had a gradient is mostly these.
fn with_zeros(part: &Eigen, live: &[usize], n: usize) -> Eigen {
    let (small, dead) = (live.len(), n - live.len());
    let below = part.values.partition_point(|x| *x < 0.0);
    let mut eigen = Eigen { values: vec![0.0; n], vectors: vec![0.0; n * n] };
    for (j, value) in part.values.iter().enumerate() {
        let to = if j < below { j } else { j + dead };
        eigen.values[to] = *value;
        for (k, i) in live.iter().enumerate() {
            eigen.vectors[i * n + to] = part.vectors[k * small + j];
        }
    }
    let alive = |i: &usize| live.binary_search(i).is_ok();
    for (at, i) in (0..n).filter(|i| !alive(i)).enumerate() {
        eigen.vectors[i * n + below + at] = 1.0;
    }
    eigen
}

/// ‖AQ − Q·diag(λ)‖ (Frobenius)
fn residual(a: &[f64], eigen: &Eigen, n: usize) -> f64 {
    let mut difference = Buffer::unspecified(n * n);
    for (row, q) in difference.chunks_exact_mut(n).zip(eigen.vectors.chunks_exact(n)) {
        for ((to, q), value) in row.iter_mut().zip(q).zip(&eigen.values) {
            *to = q * value;
        }
    }
    let (a, q) = (Matrix::new(a, n, n), Matrix::new(&eigen.vectors, n, n));
    gemm(1.0, a, q, -1.0, &mut difference);
    dot(&difference, &difference).sqrt()
}

fn fix_signs(vectors: &mut [f64], n: usize) {
    let mut largest = vec![0.0_f64; n];
    for row in vectors.chunks_exact(n.max(1)) {
        for (largest, &q) in largest.iter_mut().zip(row) {
            if q.abs() > largest.abs() {
                *largest = q;
            }
        }
    }
    for row in vectors.chunks_exact_mut(n.max(1)) {
        for (q, &largest) in row.iter_mut().zip(&largest) {
            if largest < 0.0 {
                *q = -*q;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::examples::{identity, positive, product};
    use crate::linalg::reassemble;
    use crate::oracle::{assert_close, noise};

    #[test]
    fn eigenvalues_scale_with_the_matrix_however_small_it_is() {
        // λ = 10^(−i), in a basis that mixes all: a reflection.
        let n = 24;
        let reflect = |i: usize, j: usize| f64::from(u8::from(i == j)) - 2.0 / n as f64;
        let mixed = |scale: f64| -> Vec<f64> {
            let term = |at: usize, k: usize| reflect(at / n, k) * reflect(k, at % n);
            let entry = |at| (0..n).map(|k| term(at, k) * 10_f64.powi(-(k as i32))).sum::<f64>();
            (0..n * n).map(|at| scale * entry(at)).collect()
        };
        let one = symmetric_eigen(&mixed(1.0), n).unwrap();
        for power in [-400, -100, -60, -30, -16, 40, 400] {
            let scale = 2_f64.powi(power);
            let scaled = symmetric_eigen(&mixed(scale), n).unwrap();
            assert_eq!(scaled.vectors, one.vectors, "2^{power}");
            assert!(scaled.values.iter().zip(&one.values).all(|(s, v)| *s == v * scale));
        }
    }

    #[test]
    fn the_factors_multiply_to_the_matrix_and_the_vectors_are_orthonormal() {
        for n in (0..12).chain([40, 130]) {
            let mut a = noise::<f64>(n * n, 1);
            symmetrise(&mut a, n);
            let eigen = symmetric_eigen(&a, n).unwrap();
            assert!(eigen.values.is_sorted());
            assert_close(&reassemble(&eigen.vectors, &eigen.values), &a, 1e-12);
            let ones = vec![1.0; n];
            assert_close(&reassemble(&eigen.vectors, &ones), &identity(n), 1e-12);
        }
    }

    #[test]
    fn signs_do_not_depend_on_the_scale_of_the_matrix() {
        let n = 20;
        let a = positive(n, 3, 0.1);
        let scaled: Vec<f64> = a.iter().map(|x| 1e-3 * x).collect();
        let (one, other) = (symmetric_eigen(&a, n).unwrap(), symmetric_eigen(&scaled, n).unwrap());
        assert_close(&one.vectors, &other.vectors, 1e-9);
        let column: Vec<f64> = (0..n).map(|i| one.vectors[i * n]).collect();
        let largest = column.iter().copied().max_by(|x, y| x.abs().total_cmp(&y.abs())).unwrap();
        assert!(largest > 0.0);
        let left = product(&a, &one.vectors, n);
        assert!(
            (0..n * n).all(|at| (left[at] - one.vectors[at] * one.values[at % n]).abs() < 1e-11)
        );
    }

    #[test]
    fn tiny_and_huge_matrices_keep_their_relative_precision() {
        for scale in [1e-30, 1e-200, 1e30, 0.0] {
            let a: Vec<f64> = positive(9, 5, 0.5).iter().map(|x| scale * x).collect();
            let eigen = symmetric_eigen(&a, 9).unwrap();
            let back = reassemble(&eigen.vectors, &eigen.values);
            assert!(back.iter().zip(&a).all(|(x, y)| (x - y).abs() <= 1e-13 * scale * 10.0));
        }
    }

    #[test]
    fn a_large_matrix_of_low_rank_with_rows_of_zeros_has_eigenvectors() {
        // A table's gradient: rows of words that did not occur are zero; or nearly so.
        let cases = [
            (120, 3, 1.0, 0.0),
            (300, 8, 1e-7, 0.0),
            (300, 1, 1e-12, 0.0),
            (120, 3, 1.0, 1e-30),
            (120, 3, 1.0, 1.0),
            (300, 8, 1.0, 1e-9),
        ];
        for (n, rank, scale, rest) in cases {
            let rows: Vec<f64> = noise::<f64>(n * rank, 1)
                .iter()
                .enumerate()
                .map(|(at, x)| if at / rank % 40 == 3 { scale * x } else { rest * scale * x })
                .collect();
            let mut a = vec![0.0; n * n];
            let x = Matrix::new(&rows, n, rank);
            gemm(1.0, x, x.t(), 0.0, &mut a);
            let eigen = symmetric_eigen(&a, n).unwrap();
            let norm = dot(&a, &a).sqrt();
            let back = reassemble(&eigen.vectors, &eigen.values);
            assert!(back.iter().zip(&a).all(|(x, y)| (x - y).abs() <= 1e-12 * norm), "{n}, {rank}");
            let ones = vec![1.0; n];
            assert_close(&reassemble(&eigen.vectors, &ones), &identity(n), 1e-11);
        }
    }

    #[test]
    fn nan_and_a_wrong_length_are_typed_errors() {
        let got = symmetric_eigen(&[1.0, 0.0, f64::INFINITY, 1.0], 2);
        assert!(matches!(got, Err(LinalgError::NotFinite { row: 1, column: 0, .. })));
        let got = symmetric_eigen(&[1.0; 3], 2);
        assert!(matches!(got, Err(LinalgError::Length { expected: 4, got: 3, .. })));
    }
}
