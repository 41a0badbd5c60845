//! Powers of symmetric matrices: Shampoo's A^(−1/4), by eigenvalues or by matrix products alone.

use super::{LinalgError, product, symmetric_eigen};

/// (A + (ridge − min(λ_min, 0)) I)^exponent, through the eigendecomposition. The shift makes
/// rounding-negative eigenvalues harmless. Shi et al. 2023, "Distributed Shampoo", section 3.2.
///
/// # Shape
/// a: \[n, n\] symmetric · result: \[n, n\], exactly symmetric
///
/// # Errors
/// As [`symmetric_eigen`]; [`LinalgError::NotPositiveDefinite`] when an eigenvalue is still not
/// positive and the exponent negative.
///
/// # Example
/// ```
/// let root = alcyon_kernels::linalg::power(&[16.0, 0.0, 0.0, 81.0], 2, -0.25, 0.0)?;
/// assert!((root[0] - 0.5).abs() < 1e-14 && (root[3] - 1.0 / 3.0).abs() < 1e-14);
/// # Ok::<(), alcyon_kernels::linalg::LinalgError>(())
/// ```
pub fn power(a: &[f64], n: usize, exponent: f64, ridge: f64) -> Result<Vec<f64>, LinalgError> {
    let eigen = symmetric_eigen(a, n)?;
    let shift = ridge - eigen.values.first().map_or(0.0, |least| least.min(0.0));
    let values: Vec<f64> = eigen.values.iter().map(|v| v + shift).collect();
    if let (true, Some(pivot)) = (exponent < 0.0, values.iter().position(|&v| v <= 0.0)) {
        return Err(LinalgError::NotPositiveDefinite { pivot });
    }
    // Half the power on each side: the product is then a Gram matrix, symmetric to the last bit.
    let half: Vec<f64> = values.iter().map(|v| v.max(0.0).powf(0.5 * exponent)).collect();
    let root: Vec<f64> = (0..n * n).map(|k| eigen.vectors[k] * half[k % n]).collect();
    let transposed: Vec<f64> = (0..n * n).map(|k| root[k % n * n + k / n]).collect();
    let mut result = product(&root, &transposed, n);
    for i in 0..n {
        for j in 0..i {
            result[i * n + j] = result[j * n + i];
        }
    }
    Ok(result)
}

/// A^(−1/p) by matrix products alone: the coupled Newton iteration
/// X ← X T, M ← Tᵖ M with T = ((p + 1) I − M)/p. Higham 2008, *Functions of Matrices*, eq. 7.18.
///
/// # Shape
/// a: \[n, n\] symmetric positive definite · result: \[n, n\]
///
/// # Errors
/// [`LinalgError::NotFinite`]; [`LinalgError::NoConvergence`] when max |M − I| stays above
/// `tolerance` for `steps` steps.
pub fn coupled_newton(
    a: &[f64],
    n: usize,
    p: u32,
    tolerance: f64,
    steps: usize,
) -> Result<Vec<f64>, LinalgError> {
    super::matrix(a, n)?;
    let frobenius = a.iter().map(|x| x * x).sum::<f64>().sqrt();
    let degree = f64::from(p);
    let z = (1.0 + degree) / (2.0 * frobenius);
    let identity = |scale: f64| -> Vec<f64> {
        (0..n * n).map(|k| if k % (n + 1) == 0 { scale } else { 0.0 }).collect()
    };
    let mut x = identity(z.powf(1.0 / degree));
    let mut m: Vec<f64> = a.iter().map(|v| v * z).collect();
    let mut residual = f64::INFINITY;
    for _ in 0..steps {
        residual = m.iter().zip(identity(1.0)).map(|(m, i)| (m - i).abs()).fold(0.0, f64::max);
        if residual <= tolerance {
            return Ok(x);
        }
        let t: Vec<f64> =
            m.iter().zip(identity(1.0 + degree)).map(|(m, i)| (i - m) / degree).collect();
        x = product(&x, &t, n);
        let tp = (1..p).fold(t.clone(), |power, _| product(&power, &t, n));
        m = product(&tp, &m, n);
    }
    Err(LinalgError::NoConvergence { steps, residual })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::tests::positive_definite;
    use crate::oracle::assert_close;

    #[test]
    fn the_fourth_power_of_an_inverse_fourth_root_is_the_inverse() {
        for n in 1..9 {
            let a = positive_definite(n, 40 + n as u64, 0.3);
            let root = power(&a, n, -0.25, 0.0).unwrap();
            let squared = product(&root, &root, n);
            let identity = power(&a, n, 0.0, 0.0).unwrap();
            assert_close(&product(&product(&squared, &squared, n), &a, n), &identity, 1e-9);
        }
    }

    #[test]
    fn newton_and_eigenvalues_agree_on_full_matrices() {
        for (n, p) in [(1, 2), (3, 2), (5, 4), (7, 3)] {
            let a = positive_definite(n, n as u64, 0.5);
            let newton = coupled_newton(&a, n, p, 1e-12, 100).unwrap();
            assert_close(&newton, &power(&a, n, -1.0 / f64::from(p), 0.0).unwrap(), 1e-8);
        }
    }

    #[test]
    fn a_singular_matrix_needs_a_ridge_and_newton_says_that_it_did_not_settle() {
        let singular = [1.0, 1.0, 1.0, 1.0];
        assert!(power(&singular, 2, -0.5, 1e-3).is_ok());
        assert!(matches!(
            power(&[0.0; 4], 2, -0.5, 0.0),
            Err(LinalgError::NotPositiveDefinite { pivot: 0 })
        ));
        assert!(matches!(
            coupled_newton(&singular, 2, 2, 1e-12, 10),
            Err(LinalgError::NoConvergence { steps: 10, .. })
        ));
    }
}
