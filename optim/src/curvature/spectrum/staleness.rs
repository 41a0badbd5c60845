//! How far a basis has fallen behind the matrix whose eigenvectors it once was.
//!
//! ```text
//! staleness = ‖B − diag B‖ / ‖B‖,  B = QᵀMQ           0: still eigenvectors; below 1 always
//! ```
//! The off-diagonal mass in the old basis: Eschenhagen et al. 2025, "Purifying Shampoo", who renew a basis
//! only when it exceeds a threshold. Its cost is two matrix products, a fraction of an
//! eigendecomposition's; its square is the share of ‖M‖² that eigenvalues in this basis cannot express. By
//! Hoffman & Wielandt 1953 it also bounds the eigenvalues: √Σ (bᵢᵢ − λᵢ)² ≤ staleness · ‖M‖.

use engine::{Error, Result};

use crate::algebra::dense::conjugated;
use crate::algebra::flat::dot;

/// The staleness of an orthogonal basis for a symmetric matrix; 0 for a matrix of zeros.
///
/// # Shape
/// matrix, basis: `[n, n]`, row-major; the basis's vectors are its columns
///
/// # Errors
/// [`Error::Argument`] when one of them is not square of size n.
///
/// # Example
/// ```
/// use alcyon_optim::curvature::staleness;
/// let axes = [1.0, 0.0, 0.0, 1.0];
/// assert_eq!(staleness(&[2.0, 0.0, 0.0, 5.0], &axes, 2)?, 0.0);
/// assert_eq!(staleness(&[0.0, 3.0, 3.0, 0.0], &axes, 2)?, 1.0);
/// # Ok::<(), engine::Error>(())
/// ```
pub fn staleness(matrix: &[f64], basis: &[f64], n: usize) -> Result<f64> {
    if matrix.len() != n * n || basis.len() != n * n {
        return Err(Error::Argument {
            op: "staleness",
            name: "matrix",
            expected: "n² numbers in the matrix and in the basis",
            got: format!("{} and {} for n = {n}", matrix.len(), basis.len()),
        });
    }
    let turned = conjugated(basis, matrix, basis, (n, n), true);
    let on: f64 = turned.iter().step_by(n + 1).map(|x| x * x).sum();
    let all = dot(&turned, &turned);
    Ok(if all > 0.0 { ((all - on).max(0.0) / all).sqrt() } else { 0.0 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use engine::{DType, Rng, Tensor};
    use kernels::linalg::symmetric_eigen;

    fn gram(n: usize, seed: u64) -> kernels::pool::Buffer<f64> {
        let x = Tensor::normal([n, n], 0.0, 1.0, DType::F64, &mut Rng::new(seed));
        let x = x.to_f64_vec().unwrap();
        crate::algebra::dense::product(&x, (n, n), true, &x, (n, n), false)
    }

    #[test]
    fn a_fresh_basis_is_not_stale_and_gets_so_as_the_matrix_moves_away() {
        let n = 9;
        let (old, new) = (gram(n, 1), gram(n, 2));
        let basis = symmetric_eigen(&old, n).unwrap().vectors;
        let at = |t: f64| {
            let between: Vec<f64> =
                old.iter().zip(&*new).map(|(x, y)| (1.0 - t) * x + t * y).collect();
            staleness(&between, &basis, n).unwrap()
        };
        assert!(at(0.0) < 1e-7, "{}", at(0.0));
        assert!(at(0.0) < at(0.2) && at(0.2) < at(0.6) && at(0.6) < 1.0);
        // The scale of the matrix does not matter.
        let twice: Vec<f64> = new.iter().map(|x| 2.0 * x).collect();
        assert!((staleness(&twice, &basis, n).unwrap() - at(1.0)).abs() < 1e-12);
    }

    #[test]
    fn it_bounds_what_the_diagonal_in_the_old_basis_misses_of_the_eigenvalues() {
        let n = 9;
        let (old, new) = (gram(n, 1), gram(n, 2));
        let basis = symmetric_eigen(&old, n).unwrap().vectors;
        let turned = conjugated(&basis, &new, &basis, (n, n), true);
        let mut diagonal: Vec<f64> = turned.iter().step_by(n + 1).copied().collect();
        diagonal.sort_by(f64::total_cmp);
        let exact = symmetric_eigen(&new, n).unwrap().values;
        let missed: f64 = diagonal.iter().zip(&exact).map(|(b, x)| (b - x).powi(2)).sum();
        let bound = staleness(&new, &basis, n).unwrap() * dot(&new, &new).sqrt();
        assert!(missed.sqrt() <= bound, "{} > {bound}", missed.sqrt());
        assert!(missed.sqrt() > 0.1 * bound, "a bound that is always far away shows nothing");
    }

    #[test]
    fn sizes_that_do_not_fit_are_refused() {
        assert!(matches!(staleness(&[1.0], &[1.0; 4], 2), Err(Error::Argument { .. })));
        assert_eq!(staleness(&[0.0; 4], &[1.0, 0.0, 0.0, 1.0], 2).unwrap(), 0.0);
    }
}
