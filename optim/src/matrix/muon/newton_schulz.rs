//! The iteration that brings singular values near one: products of matrices alone.
//!
//! Singular vectors stay, and every singular value s becomes p(p(… s …)) with p(s) = a s + b s³ + c s⁵. The
//! classical cubic form: Higham 2008, *Functions of Matrices*, (8.20).

use engine::{FloatElement, Result, Tensor, for_float};
#[cfg(feature = "cuda")]
use kernels::cuda::newton_schulz::newton_schulz as iterate_there;
use kernels::gemm::{Matrix, gemm};

/// a, b and c of the iteration.
pub type Quintic = [f64; 3];

/// The authors' coefficients: steep at zero, not convergent.
pub const STEEP: Quintic = [3.4445, -4.775, 2.0315];

/// Coefficients with which the iteration converges to singular values of one.
pub const CONVERGENT: Quintic = [3.0, -3.2, 1.2];

/// X / (‖X‖ + ε), then X ← a X + (b A + c A²) X with A = X Xᵀ, `iterations` times.
///
/// Singular vectors stay, every singular value s becomes p(p(… s/‖X‖ …)) with p(s) = a s + b s³ + c s⁵.
///
/// # Shape
/// x, result: `[rows, columns]`, row-major; A is formed on the shorter side.
///
/// # Source
/// Jordan et al. 2024; the classical cubic form: Higham 2008, *Functions of Matrices*, (8.20).
///
/// # Example
/// ```
/// use alcyon_optim::{CONVERGENT, newton_schulz};
/// let x = newton_schulz(&[3.0_f64, 4.0], (1, 2), CONVERGENT, 9, 0.0); // a row: its direction
/// assert!((x[0] - 0.6).abs() < 1e-12 && (x[1] - 0.8).abs() < 1e-12);
/// ```
#[must_use]
pub fn newton_schulz<T: FloatElement>(
    x: &[T],
    (rows, columns): (usize, usize),
    quintic: Quintic,
    iterations: u32,
    epsilon: f64,
) -> Vec<T> {
    let length = x.iter().map(|&x| kernels::Float::to_f64(x * x)).sum::<f64>().sqrt();
    let scale = T::of(1.0 / (length + epsilon).max(f64::MIN_POSITIVE));
    iterate_here(x.iter().map(|&x| x * scale).collect(), (rows, columns), quintic, iterations)
}

/// The iteration, where X is.
pub(super) fn iterate(
    x: &Tensor,
    sides: (usize, usize),
    quintic: Quintic,
    iterations: u32,
) -> Result<Tensor> {
    #[cfg(feature = "cuda")]
    if let Some(gpu) = x.gpu().map(std::sync::Arc::clone) {
        let mut x = x.clone();
        iterate_there(&gpu, &x.make_cuda_mut()?, sides, quintic, iterations)?;
        return Ok(x);
    }
    let shape = *x.shape();
    for_float!(x.dtype(), T => {
        Tensor::from_vec(iterate_here(x.to_vec::<T>()?, sides, quintic, iterations), shape)
    })
}

/// X ← a X + (b A + c A²) X with A = X Xᵀ, `iterations` times.
fn iterate_here<T: FloatElement>(
    mut x: Vec<T>,
    (rows, columns): (usize, usize),
    quintic: Quintic,
    iterations: u32,
) -> Vec<T> {
    let n = rows.min(columns);
    let [a, b, c] = quintic.map(T::of);
    let (mut gram, mut poly) = (vec![T::ZERO; n * n], vec![T::ZERO; n * n]);
    let mut next = vec![T::ZERO; x.len()];
    for _ in 0..iterations {
        let m = Matrix::new(&x, rows, columns);
        let (short, long) = if rows <= columns { (m, m.t()) } else { (m.t(), m) };
        gemm(T::ONE, short, long, T::ZERO, &mut gram);
        // b A + c A²
        poly.copy_from_slice(&gram);
        gemm(c, Matrix::new(&gram, n, n), Matrix::new(&gram, n, n), b, &mut poly);
        next.copy_from_slice(&x);
        let p = Matrix::new(&poly, n, n);
        // P is symmetric: from the right for a tall X.
        let (left, right) = if rows <= columns { (p, m) } else { (m, p) };
        gemm(T::ONE, left, right, a, &mut next);
        std::mem::swap(&mut x, &mut next);
    }
    x
}
