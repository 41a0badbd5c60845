//! The first rung: cᵢⱼ = α Σₗ aᵢₗ bₗⱼ + β cᵢⱼ in three loops.

use super::{Matrix, check};
use crate::float::Float;

/// C = α·A·B + β·C by the definition. The oracle for the other rungs.
///
/// # Panics
/// If the shapes do not fit.
///
/// # Example
/// ```
/// use alcyon_kernels::gemm::{Matrix, reference};
/// let mut c = [1.0];
/// reference::gemm(2.0, Matrix::new(&[3.0], 1, 1), Matrix::new(&[4.0], 1, 1), 10.0, &mut c);
/// assert_eq!(c, [34.0]);
/// ```
pub fn gemm<T: Float>(alpha: T, a: Matrix<'_, T>, b: Matrix<'_, T>, beta: T, c: &mut [T]) {
    let (m, k, n) = check(a, b, c);
    for i in 0..m {
        for j in 0..n {
            let product: T = (0..k).map(|l| a.get(i, l) * b.get(l, j)).sum();
            let kept = if beta == T::ZERO { T::ZERO } else { beta * c[i * n + j] };
            c[i * n + j] = alpha * product + kept;
        }
    }
}
