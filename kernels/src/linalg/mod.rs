//! Matrices in `f64`: eigenvectors, Cholesky factors, inverses and inverse roots of symmetric ones;
//! orthonormal bases.
//!
//! Factorisations run on one thread, and nearly all of their work is in matrix products. Around them is
//! what curvature needs: checked inputs, checked results, typed errors, and one answer where mathematics allows
//! several (signs and order of eigenvectors). Matrices are row-major \[n, n\].

pub mod cholesky;
mod divide;
pub mod inverse_root;
pub mod qr;
mod reflections;
mod rows;
mod secular;
pub mod symmetric_eigen;
mod triangular;
mod tridiagonal;

pub use cholesky::{cholesky, cholesky_inverse, cholesky_solve, solve};
pub use inverse_root::{InverseRoot, coupled_newton, power};
pub use qr::orthonormal;
pub use symmetric_eigen::{Eigen, symmetric_eigen};

use crate::parallel::threads;
use crate::pool::{OutOfMemory, expect_room};
use crate::sizes::product;

/// Why a factorisation has no result.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum LinalgError {
    /// The slice is not an n × n matrix.
    #[error("{routine}: expected {expected} numbers, got {got}")]
    Length {
        /// What was asked for.
        routine: &'static str,
        /// n²
        expected: usize,
        /// The length of the slice.
        got: usize,
    },
    /// An element is NaN or infinite.
    #[error("{routine}: element ({row}, {column}) is {value}")]
    NotFinite {
        /// What was asked for.
        routine: &'static str,
        /// The row of the first such element.
        row: usize,
        /// Its column.
        column: usize,
        /// Its value.
        value: f64,
    },
    /// A Cholesky pivot is not positive.
    #[error("not positive definite: pivot {pivot} is {value}")]
    NotPositiveDefinite {
        /// The row of the pivot.
        pivot: usize,
        /// Its value, ≤ 0.
        value: f64,
    },
    /// A negative power was asked of a matrix that has an eigenvalue of 0.
    #[error("singular: eigenvalue {index} is {value} after the ridge")]
    Singular {
        /// Which eigenvalue.
        index: usize,
        /// Its value.
        value: f64,
    },
    /// There is no memory for what the routine works in.
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    /// The iteration ended, but the result does not satisfy its equation.
    #[error("{routine}: did not converge: residual {residual}, tolerance {tolerance}")]
    NoConvergence {
        /// What was asked for.
        routine: &'static str,
        /// How far the result is from its equation.
        residual: f64,
        /// How far it may be.
        tolerance: f64,
    },
}

/// Checks that `a` is an n × n matrix of finite numbers, and that there is room for so many of its size: a
/// routine's result and all that it works in, the library's part included.
fn check(routine: &'static str, a: &[f64], n: usize, matrices: usize) -> Result<(), LinalgError> {
    check_length(routine, a.len(), [n, n])?;
    expect_matrices(a, matrices)?;
    match a.iter().position(|x| !x.is_finite()) {
        Some(at) => {
            Err(LinalgError::NotFinite { routine, row: at / n, column: at % n, value: a[at] })
        }
        None => Ok(()),
    }
}

/// Room for so many matrices of the size of `a`. Where this is one of several threads, each of them may be here.
fn expect_matrices(a: &[f64], matrices: usize) -> Result<(), OutOfMemory> {
    let threads = rayon::current_thread_index().map_or(1, |_| threads());
    expect_room(size_of_val(a).saturating_mul(matrices).saturating_mul(threads))
}

/// Zeros that become a result. Where the system has no memory for them, what the pool holds is given back first.
fn zeros(len: usize) -> Result<Vec<f64>, OutOfMemory> {
    expect_room(len.saturating_mul(size_of::<f64>()))?;
    Ok(vec![0.0; len])
}

/// The same numbers; memory as for [`zeros`].
fn copy(a: &[f64]) -> Result<Vec<f64>, OutOfMemory> {
    expect_room(size_of_val(a))?;
    Ok(a.to_vec())
}

fn check_length(routine: &'static str, got: usize, sizes: [usize; 2]) -> Result<(), LinalgError> {
    match product(&sizes) {
        Some(expected) if got == expected => Ok(()),
        expected => {
            Err(LinalgError::Length { routine, expected: expected.unwrap_or(usize::MAX), got })
        }
    }
}

/// Q·diag(w)·Qᵀ, exactly symmetric.
fn reassemble(vectors: &[f64], w: &[f64]) -> Vec<f64> {
    use crate::gemm::{Matrix, gemm};
    let n = w.len();
    let scaled: Vec<f64> = vectors.iter().enumerate().map(|(at, q)| q * w[at % n]).collect();
    let mut out = vec![0.0; n * n];
    gemm(1.0, Matrix::new(&scaled, n, n), Matrix::new(vectors, n, n).t(), 0.0, &mut out);
    symmetrise(&mut out, n);
    out
}

/// a ← (a + aᵀ)/2
fn symmetrise(a: &mut [f64], n: usize) {
    for i in 0..n {
        for j in 0..i {
            let mean = 0.5 * (a[i * n + j] + a[j * n + i]);
            (a[i * n + j], a[j * n + i]) = (mean, mean);
        }
    }
}

#[cfg(test)]
pub(crate) mod examples {
    use crate::oracle::noise;
    use crate::second_moment::gram;

    /// A well-conditioned positive definite matrix: xᵀx/n + ridge.
    pub(crate) fn positive(n: usize, seed: u64, ridge: f64) -> Vec<f64> {
        let x = noise::<f64>(2 * n * n, seed);
        let mut a = vec![0.0; n * n];
        gram(&x, 2 * n, n, &mut a);
        a.iter_mut().for_each(|a| *a /= n as f64);
        (0..n).for_each(|i| a[i * n + i] += ridge);
        a
    }

    /// a·b by the definition.
    pub(crate) fn product(a: &[f64], b: &[f64], n: usize) -> Vec<f64> {
        let entry = |at: usize| (0..n).map(|k| a[at / n * n + k] * b[k * n + at % n]).sum();
        (0..n * n).map(entry).collect()
    }

    /// The identity.
    pub(crate) fn identity(n: usize) -> Vec<f64> {
        (0..n * n).map(|at| f64::from(at / n == at % n)).collect()
    }
}
