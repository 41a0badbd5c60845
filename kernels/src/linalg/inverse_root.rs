//! Powers of symmetric matrices, Aᵖ with p = −1/2, −1/4, …: Shampoo's preconditioners.
//!
//! [`power`] goes through eigenvectors and takes any exponent. [`coupled_newton`] uses products only
//! and takes −1/p for a whole p; it is the iteration (7.18) of Higham 2008, *Functions of Matrices*:
//!
//! X₀ = I/c, M₀ = A/cᵖ;   T = ((p + 1)I − M)/p, X ← XT, M ← TᵖM, until M = I; then X = A^(−1/p).

use super::{LinalgError, check, expect_matrices, reassemble, symmetric_eigen, symmetrise};
use crate::gemm::{Matrix, gemm};
use crate::reduce::dot;

/// Steps after which [`coupled_newton`] gives up; condition numbers up to 10¹² need fewer.
const MOST_STEPS: usize = 200;

/// (A + shift)^exponent = Q·diag((λ + shift)^exponent)·Qᵀ with shift = ridge − min(λ₁, 0).
///
/// The shift first lifts a negative λ₁, which an exact second moment never has, to 0; then every
/// eigenvalue gets the ridge.
///
/// # Shape
/// a: \[n, n\] · result: \[n, n\], exactly symmetric
///
/// # Units
/// `ridge` is in the units of A.
///
/// # Errors
/// [`LinalgError::Singular`] for a negative exponent if λ₁ + shift is 0 (ridge = 0), and those of
/// [`symmetric_eigen()`].
///
/// # Source
/// Gupta, Koren & Singer 2018 (Shampoo), Algorithm 1; the lift as in Shi et al. 2023, section 3.2.
///
/// # Example
/// ```
/// let root = alcyon_kernels::linalg::power(&[4.0, 0.0, 0.0, 16.0], 2, -0.5, 0.0)?;
/// assert!((root[0] - 0.5).abs() < 1e-15 && (root[3] - 0.25).abs() < 1e-15);
/// # Ok::<(), alcyon_kernels::linalg::LinalgError>(())
/// ```
pub fn power(a: &[f64], n: usize, exponent: f64, ridge: f64) -> Result<Vec<f64>, LinalgError> {
    let eigen = symmetric_eigen(a, n)?;
    let lift = eigen.values.first().map_or(0.0, |least| -least.min(0.0));
    let mut w = eigen.values;
    for (index, w) in w.iter_mut().enumerate() {
        let value = *w + lift + ridge;
        if value < 0.0 || (value == 0.0 && exponent < 0.0) {
            return Err(LinalgError::Singular { index, value });
        }
        *w = value.powf(exponent);
    }
    expect_matrices(a, 2)?;
    Ok(reassemble(&eigen.vectors, &w))
}

/// The result of [`coupled_newton`].
#[derive(Clone, Debug, PartialEq)]
pub struct InverseRoot {
    /// X ≈ A^(−1/p), row-major \[n, n\].
    pub root: Vec<f64>,
    /// The largest |M − I| at the end, where M = XᵖA but for rounding.
    pub residual: f64,
    /// The steps taken.
    pub iterations: usize,
}

/// A^(−1/p) for a symmetric positive definite A, by products alone.
///
/// # Shape
/// a: \[n, n\] · p ≥ 1
///
/// # Errors
/// [`LinalgError::NoConvergence`] if the residual is above `tolerance` after 200 steps or stops
/// shrinking (A is not positive definite, or too ill-conditioned for f64); [`LinalgError::Length`],
/// [`LinalgError::NotFinite`], [`LinalgError::OutOfMemory`].
///
/// # Source
/// Higham 2008, (7.18); the start c = (2‖A‖/(p + 1))^(1/p) from Guo & Higham 2006, section 3.
///
/// # Example
/// ```
/// let fourth = alcyon_kernels::linalg::coupled_newton(&[16.0, 0.0, 0.0, 81.0], 2, 4, 1e-12)?;
/// assert!((fourth.root[0] - 1.0 / 2.0).abs() < 1e-11 && (fourth.root[3] - 1.0 / 3.0).abs() < 1e-11);
/// # Ok::<(), alcyon_kernels::linalg::LinalgError>(())
/// ```
pub fn coupled_newton(
    a: &[f64],
    n: usize,
    p: u32,
    tolerance: f64,
) -> Result<InverseRoot, LinalgError> {
    const ROUTINE: &str = "coupled_newton";
    check(ROUTINE, a, n, 4)?;
    let (p, order) = (p.max(1), f64::from(p.max(1)));
    let mut m = a.to_vec();
    symmetrise(&mut m, n);
    // The Frobenius norm bounds the spectral norm, so all eigenvalues of M₀ are in (0, (p + 1)/2].
    let norm = dot(&m, &m).sqrt();
    let scale = if norm > 0.0 { (order + 1.0) / (2.0 * norm) } else { 1.0 }; // 1/cᵖ
    m.iter_mut().for_each(|m| *m *= scale);
    let mut x = vec![0.0; n * n];
    (0..n).for_each(|i| x[i * n + i] = scale.powf(1.0 / order));

    let (mut t, mut next) = (vec![0.0; n * n], vec![0.0; n * n]);
    let mut residual = distance_from_identity(&m, n);
    let mut iterations = 0;
    while residual > tolerance && iterations < MOST_STEPS {
        // STEP 1: T = ((p + 1)I − M)/p.
        for (at, (t, m)) in t.iter_mut().zip(&m).enumerate() {
            *t = (if at / n == at % n { order + 1.0 } else { 0.0 } - m) / order;
        }
        // STEP 2: X ← XT. All these matrices are polynomials of A: they commute and are symmetric.
        multiply(&x, &t, &mut next, n);
        std::mem::swap(&mut x, &mut next);
        // STEP 3: M ← TᵖM.
        for _ in 0..p {
            multiply(&t, &m, &mut next, n);
            std::mem::swap(&mut m, &mut next);
        }
        let before = residual;
        residual = distance_from_identity(&m, n);
        iterations += 1;
        if residual.is_nan() || (before < 0.1 && residual > 2.0 * before) {
            break;
        }
    }
    if residual <= tolerance {
        Ok(InverseRoot { root: x, residual, iterations })
    } else {
        Err(LinalgError::NoConvergence { routine: ROUTINE, residual, tolerance })
    }
}

/// out = a·b, made symmetric.
fn multiply(a: &[f64], b: &[f64], out: &mut [f64], n: usize) {
    gemm(1.0, Matrix::new(a, n, n), Matrix::new(b, n, n), 0.0, out);
    symmetrise(out, n);
}

/// The largest |mᵢⱼ − δᵢⱼ|; NaN if there is one.
fn distance_from_identity(m: &[f64], n: usize) -> f64 {
    m.iter().enumerate().fold(0.0, |worst, (at, m)| {
        let here = (m - f64::from(at / n == at % n)).abs();
        if here > worst || here.is_nan() { here } else { worst }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::examples::{identity, positive, product};
    use crate::linalg::{cholesky_inverse, reassemble};
    use crate::oracle::assert_close;

    #[test]
    fn powers_multiply_as_their_exponents_add() {
        for n in (0..12).chain([40]) {
            let a = positive(n, 1, 0.2);
            let half = power(&a, n, -0.5, 0.0).unwrap();
            let inverse = cholesky_inverse(&a, n).unwrap();
            assert_close(&product(&half, &half, n), &inverse, 1e-10);
            assert_close(&power(&a, n, 1.0, 0.0).unwrap(), &a, 1e-12);
            assert_close(&power(&a, n, 0.0, 0.0).unwrap(), &identity(n), 1e-12);
        }
    }

    #[test]
    fn newton_and_eigenvectors_give_the_same_roots() {
        for p in [1, 2, 3, 4, 8] {
            for n in (0..12).chain([40]) {
                let a = positive(n, 2, 0.05);
                let newton = coupled_newton(&a, n, p, 1e-10).unwrap();
                let want = power(&a, n, -1.0 / f64::from(p), 0.0).unwrap();
                assert_close(&newton.root, &want, 1e-7);
                assert!(newton.residual <= 1e-10 && newton.iterations < 60);
            }
        }
    }

    #[test]
    fn a_negative_eigenvalue_is_lifted_before_the_ridge() {
        // Eigenvalues −1 and 3 become 0 + 4 and 4 + 4.
        let root = power(&[1.0, 2.0, 2.0, 1.0], 2, -1.0, 4.0).unwrap();
        let q = 0.5_f64.sqrt();
        assert_close(&root, &reassemble(&[q, q, -q, q], &[0.25, 0.125]), 1e-14);
    }

    #[test]
    fn a_singular_or_indefinite_matrix_is_a_typed_error() {
        let got = power(&[0.0; 4], 2, -0.5, 0.0);
        assert_eq!(got, Err(LinalgError::Singular { index: 0, value: 0.0 }));
        for a in [[0.0; 4], [1.0, 2.0, 2.0, 1.0]] {
            let got = coupled_newton(&a, 2, 2, 1e-10);
            assert!(matches!(got, Err(LinalgError::NoConvergence { .. })), "{got:?}");
        }
    }
}
