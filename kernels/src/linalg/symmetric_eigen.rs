//! A = Q diag(λ) Qᵀ for a symmetric matrix.

use super::{LinalgError, matrix, row_major};

/// Eigenvalues and eigenvectors of a symmetric matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Eigen {
    /// λ, ascending.
    pub values: Vec<f64>,
    /// Q, row-major `[n, n]`: column k belongs to `values[k]`. The entry of largest magnitude in
    /// each column (the first of equals) is positive.
    pub vectors: Vec<f64>,
}

/// The eigendecomposition of the symmetric part of `a`.
///
/// # Shape
/// a: \[n, n\]
///
/// # Errors
/// [`LinalgError::NotFinite`]; [`LinalgError::NoConvergence`] when the decomposition fails or its
/// residual max |A Q − Q Λ| is above 1e-10 of the largest |λ|.
///
/// # Example
/// ```
/// let e = alcyon_kernels::linalg::symmetric_eigen(&[2.0, 1.0, 1.0, 2.0], 2)?;
/// assert!((e.values[0] - 1.0).abs() < 1e-12 && (e.values[1] - 3.0).abs() < 1e-12);
/// # Ok::<(), alcyon_kernels::linalg::LinalgError>(())
/// ```
pub fn symmetric_eigen(a: &[f64], n: usize) -> Result<Eigen, LinalgError> {
    if n == 0 {
        return Ok(Eigen { values: Vec::new(), vectors: Vec::new() });
    }
    let raw = matrix(a, n)?;
    let m = faer::Mat::from_fn(n, n, |i, j| 0.5 * (raw[(i, j)] + raw[(j, i)]));
    let failed = |_| LinalgError::NoConvergence { steps: 0, residual: f64::INFINITY };
    let eigen = m.self_adjoint_eigen(faer::Side::Lower).map_err(failed)?;
    let values: Vec<f64> = (0..n).map(|k| eigen.S()[k]).collect();
    let mut vectors = row_major(eigen.U());
    for k in 0..n {
        fix_sign(&mut vectors, n, k);
    }
    let scale = values.iter().fold(f64::MIN_POSITIVE, |m: f64, v| m.max(v.abs()));
    let residual = residual(&row_major(m.as_ref()), &values, &vectors, n) / scale;
    if residual > 1e-10 {
        return Err(LinalgError::NoConvergence { steps: 0, residual });
    }
    Ok(Eigen { values, vectors })
}

fn fix_sign(vectors: &mut [f64], n: usize, k: usize) {
    let mut pivot = 0.0_f64;
    for i in 0..n {
        let x = vectors[i * n + k];
        if x.abs() > pivot.abs() {
            pivot = x;
        }
    }
    if pivot < 0.0 {
        for i in 0..n {
            vectors[i * n + k] = -vectors[i * n + k];
        }
    }
}

/// max |A Q − Q Λ|
fn residual(a: &[f64], values: &[f64], vectors: &[f64], n: usize) -> f64 {
    let product = super::product(a, vectors, n);
    let gap = |k: usize| (product[k] - vectors[k] * values[k % n]).abs();
    (0..n * n).map(gap).fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::tests::positive_definite;
    use crate::oracle::assert_close;

    #[test]
    fn the_decomposition_multiplies_back_and_repeats_bit_for_bit() {
        for n in 1..12 {
            let a = positive_definite(n, n as u64, 0.0);
            let e = symmetric_eigen(&a, n).unwrap();
            assert!(e.values.windows(2).all(|w| w[0] <= w[1]));
            let scaled: Vec<f64> = (0..n * n).map(|k| e.vectors[k] * e.values[k % n]).collect();
            let transposed: Vec<f64> = (0..n * n).map(|k| e.vectors[k % n * n + k / n]).collect();
            assert_close(&super::super::product(&scaled, &transposed, n), &a, 1e-11);
            assert_eq!(symmetric_eigen(&a, n).unwrap(), e);
            for k in 0..n {
                let column: Vec<f64> = (0..n).map(|i| e.vectors[i * n + k]).collect();
                let largest = column
                    .iter()
                    .copied()
                    .fold(0.0_f64, |m, x| if x.abs() > m.abs() { x } else { m });
                assert!(largest > 0.0);
            }
        }
    }

    #[test]
    fn a_nan_is_named_by_its_place() {
        let a = [1.0, 0.0, f64::NAN, 1.0];
        assert_eq!(symmetric_eigen(&a, 2), Err(LinalgError::NotFinite { row: 1, column: 0 }));
    }
}
