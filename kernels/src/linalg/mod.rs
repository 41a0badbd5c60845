//! Small symmetric matrices in f64: eigenvectors, inverses, roots. The decompositions are faer's;
//! what is ours is that bad input is an error, that results are checked, and that signs and order
//! are fixed, so that a run repeats bit for bit.

mod cholesky;
mod inverse_root;
mod symmetric_eigen;

pub use cholesky::{cholesky_inverse, cholesky_solve};
pub use inverse_root::{coupled_newton, power};
pub use symmetric_eigen::{Eigen, symmetric_eigen};

/// Why a matrix routine gave no result.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum LinalgError {
    /// An entry is NaN or infinite.
    #[error("the matrix has an entry that is not finite, at row {row}, column {column}")]
    NotFinite {
        /// Its row.
        row: usize,
        /// Its column.
        column: usize,
    },
    /// A factorisation met a pivot that is not positive.
    #[error("the matrix is not positive definite (pivot {pivot})")]
    NotPositiveDefinite {
        /// The index of the pivot.
        pivot: usize,
    },
    /// An iteration did not settle.
    #[error("no convergence: residual {residual:.1e} after {steps} steps")]
    NoConvergence {
        /// Steps made.
        steps: usize,
        /// How far the result is from solving its equation.
        residual: f64,
    },
}

/// The matrix for faer; refused if an entry is not finite.
fn matrix(a: &[f64], n: usize) -> Result<faer::Mat<f64>, LinalgError> {
    assert_eq!(a.len(), n * n, "linalg: a square matrix");
    match a.iter().position(|x| !x.is_finite()) {
        Some(at) => Err(LinalgError::NotFinite { row: at / n, column: at % n }),
        None => Ok(faer::Mat::from_fn(n, n, |i, j| a[i * n + j])),
    }
}

/// Row-major numbers of a faer matrix.
fn row_major(m: faer::MatRef<'_, f64>) -> Vec<f64> {
    (0..m.nrows()).flat_map(|i| (0..m.ncols()).map(move |j| m[(i, j)])).collect()
}

/// a · b for square row-major matrices.
fn product(a: &[f64], b: &[f64], n: usize) -> Vec<f64> {
    use crate::gemm::{Matrix, sequential};
    let mut c = vec![0.0; n * n];
    sequential(1.0, Matrix::new(a, n, n), Matrix::new(b, n, n), 0.0, &mut c);
    c
}

#[cfg(test)]
pub(crate) mod tests {
    use crate::oracle::noise;

    /// A full-rank, non-diagonal, positive definite matrix: X Xᵀ + ridge I.
    pub(crate) fn positive_definite(n: usize, seed: u64, ridge: f64) -> Vec<f64> {
        let x = noise::<f64>(n * (n + 2), seed);
        let entry = |i: usize, j: usize| -> f64 {
            let dot: f64 = (0..n + 2).map(|k| x[i * (n + 2) + k] * x[j * (n + 2) + k]).sum();
            dot + if i == j { ridge } else { 0.0 }
        };
        (0..n * n).map(|k| entry(k / n, k % n)).collect()
    }
}
