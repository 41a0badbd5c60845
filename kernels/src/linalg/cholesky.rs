//! A = L Lᵀ, to solve and to invert positive definite matrices.

use faer::linalg::solvers::{DenseSolveCore as _, Solve as _};

use super::{LinalgError, matrix, row_major};

/// A⁻¹ for a symmetric positive definite matrix, exactly symmetric.
///
/// # Shape
/// a: \[n, n\] · result: \[n, n\]
///
/// # Errors
/// [`LinalgError::NotFinite`], [`LinalgError::NotPositiveDefinite`].
///
/// # Example
/// ```
/// let inverse = alcyon_kernels::linalg::cholesky_inverse(&[4.0, 0.0, 0.0, 2.0], 2)?;
/// assert_eq!(inverse, [0.25, 0.0, 0.0, 0.5]);
/// # Ok::<(), alcyon_kernels::linalg::LinalgError>(())
/// ```
pub fn cholesky_inverse(a: &[f64], n: usize) -> Result<Vec<f64>, LinalgError> {
    if n == 0 {
        return Ok(Vec::new());
    }
    let mut inverse = row_major(factor(a, n)?.inverse().as_ref());
    for i in 0..n {
        for j in 0..i {
            let mean = 0.5 * (inverse[i * n + j] + inverse[j * n + i]);
            inverse[i * n + j] = mean;
            inverse[j * n + i] = mean;
        }
    }
    Ok(inverse)
}

/// The solution X of A X = B for a symmetric positive definite A.
///
/// # Shape
/// a: \[n, n\] · b: \[n, columns\] · result: \[n, columns\]
///
/// # Errors
/// As [`cholesky_inverse`].
pub fn cholesky_solve(a: &[f64], n: usize, b: &[f64]) -> Result<Vec<f64>, LinalgError> {
    if n == 0 {
        return Ok(Vec::new());
    }
    let columns = b.len() / n;
    assert_eq!(b.len(), n * columns, "cholesky_solve: rows of b");
    let b = faer::Mat::from_fn(n, columns, |i, j| b[i * columns + j]);
    Ok(row_major(factor(a, n)?.solve(&b).as_ref()))
}

fn factor(a: &[f64], n: usize) -> Result<faer::linalg::solvers::Llt<f64>, LinalgError> {
    matrix(a, n)?.llt(faer::Side::Lower).map_err(|error| match error {
        faer::linalg::cholesky::llt::factor::LltError::NonPositivePivot { index } => {
            LinalgError::NotPositiveDefinite { pivot: index }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::tests::positive_definite;
    use crate::oracle::assert_close;

    #[test]
    fn a_matrix_times_its_inverse_is_the_identity() {
        for n in 1..12 {
            let a = positive_definite(n, n as u64, 0.5);
            let inverse = cholesky_inverse(&a, n).unwrap();
            let identity: Vec<f64> =
                (0..n * n).map(|k| if k % (n + 1) == 0 { 1.0 } else { 0.0 }).collect();
            assert_close(&crate::linalg::product(&a, &inverse, n), &identity, 1e-10);
            assert_close(&cholesky_solve(&a, n, &a).unwrap(), &identity, 1e-10);
        }
    }

    #[test]
    fn an_indefinite_matrix_is_refused() {
        let error = cholesky_inverse(&[1.0, 0.0, 0.0, -1.0], 2);
        assert!(matches!(error, Err(LinalgError::NotPositiveDefinite { .. })), "{error:?}");
    }
}
