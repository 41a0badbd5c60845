//! An orthonormal basis of the columns of a square matrix: the Q of A = Q·R.
//!
//! Householder reflections, so Q is orthogonal to rounding even where A is singular. Golub & Van Loan
//! 2013, *Matrix Computations*, section 5.2.

use super::{LinalgError, check};
use faer::MatRef;

/// Q of A = Q·R, row-major; R has no negative number on its diagonal, which makes Q unique for a
/// regular A.
///
/// # Shape
/// a, result: \[n, n\]
///
/// # Errors
/// [`LinalgError::Length`], [`LinalgError::NotFinite`], [`LinalgError::OutOfMemory`].
///
/// # Example
/// ```
/// let q = alcyon_kernels::linalg::orthonormal(&[3.0, 1.0, 4.0, 1.0], 2)?;
/// assert!((q[0] - 0.6).abs() < 1e-15 && (q[2] - 0.8).abs() < 1e-15);
/// # Ok::<(), alcyon_kernels::linalg::LinalgError>(())
/// ```
pub fn orthonormal(a: &[f64], n: usize) -> Result<Vec<f64>, LinalgError> {
    check("orthonormal", a, n, 4)?;
    if n == 0 {
        return Ok(Vec::new());
    }
    let decomposition = MatRef::from_row_major_slice(a, n, n).qr();
    let (q, r) = (decomposition.compute_thin_Q(), decomposition.thin_R());
    let sign = |j: usize| if r[(j, j)] < 0.0 { -1.0 } else { 1.0 };
    Ok((0..n * n).map(|at| sign(at % n) * q[(at / n, at % n)]).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::examples::{identity, product};
    use crate::oracle::noise;

    fn transposed(a: &[f64], n: usize) -> Vec<f64> {
        (0..n * n).map(|at| a[at % n * n + at / n]).collect()
    }

    #[test]
    fn the_columns_are_orthonormal_and_span_those_of_the_matrix() {
        for n in 0..=12 {
            let a = noise::<f64>(n * n, n as u64);
            let q = orthonormal(&a, n).unwrap();
            let gram = product(&transposed(&q, n), &q, n);
            assert!(gram.iter().zip(identity(n)).all(|(x, y)| (x - y).abs() < 1e-13), "{n}");
            // R = Qᵀ A is triangular with a positive diagonal.
            let r = product(&transposed(&q, n), &a, n);
            for (at, &r) in r.iter().enumerate() {
                let (i, j) = (at / n, at % n);
                assert!(if i > j { r.abs() < 1e-12 } else { i < j || r > 0.0 }, "{n}: {at}");
            }
        }
    }

    #[test]
    fn a_singular_matrix_still_gets_a_whole_basis() {
        let q = orthonormal(&[1.0, 2.0, 0.0, 2.0, 4.0, 0.0, 0.0, 0.0, 0.0], 3).unwrap();
        let gram = product(&transposed(&q, 3), &q, 3);
        assert!(gram.iter().zip(identity(3)).all(|(x, y)| (x - y).abs() < 1e-13));
    }
}
