//! A tensor seen along one of its axes: second moments of an axis, and products with a matrix.
//!
//! A row-major tensor of dims d₁ … dₖ is, for axis i, a stack of d₁ ⋯ dᵢ₋₁ matrices of dᵢ rows and
//! dᵢ₊₁ ⋯ dₖ columns. Kolda & Bader 2009, "Tensor Decompositions and Applications", section 2.5.

use engine::{Result, Tensor};
use kernels::gemm::{Matrix, gemm};

/// Rows of an axis, columns behind it.
fn slab(dims: &[usize], axis: usize) -> (usize, usize) {
    (dims[axis], dims[axis + 1..].iter().product())
}

/// out ← keep · out + gain · X₍ᵢ₎ X₍ᵢ₎ᵀ
///
/// # Shape
/// x: the dims · out: `[dᵢ, dᵢ]`
pub(crate) fn gram(
    x: &[f64],
    dims: &[usize],
    axis: usize,
    (keep, gain): (f64, f64),
    out: &mut [f64],
) {
    cross(x, x, dims, axis, (keep, gain), out);
}

/// out ← keep · out + gain · X₍ᵢ₎ Y₍ᵢ₎ᵀ
pub(crate) fn cross(
    x: &[f64],
    y: &[f64],
    dims: &[usize],
    axis: usize,
    (keep, gain): (f64, f64),
    out: &mut [f64],
) {
    let (rows, columns) = slab(dims, axis);
    out.iter_mut().for_each(|x| *x *= keep);
    let size = (rows * columns).max(1);
    for (x, y) in x.chunks_exact(size).zip(y.chunks_exact(size)) {
        let (x, y) = (Matrix::new(x, rows, columns), Matrix::new(y, rows, columns));
        gemm(gain, x, y.t(), 1.0, out);
    }
}

/// X ×ᵢ M, or with Mᵀ if `transposed`.
///
/// # Shape
/// x, result: the dims · matrix: `[dᵢ, dᵢ]`
pub(crate) fn times(
    x: &[f64],
    dims: &[usize],
    axis: usize,
    matrix: &[f64],
    transposed: bool,
) -> Vec<f64> {
    let (rows, columns) = slab(dims, axis);
    let size = (rows * columns).max(1);
    let m = Matrix::new(matrix, rows, rows);
    let m = if transposed { m.t() } else { m };
    let mut out = vec![0.0; x.len()];
    for (x, out) in x.chunks_exact(size).zip(out.chunks_exact_mut(size)) {
        gemm(1.0, m, Matrix::new(x, rows, columns), 0.0, out);
    }
    out
}

/// The axis in front, all others behind it: X₍ᵢ₎ `[dᵢ, …]`, wherever X is.
fn unfolded(x: &Tensor, axis: usize) -> Result<Tensor> {
    let dim = x.shape()[axis];
    let front = x.transpose(0, axis as isize)?;
    front.reshape([dim, x.numel().checked_div(dim).unwrap_or(0)])
}

/// [`gram`] as operations on tensors, of X alone: X₍ᵢ₎ X₍ᵢ₎ᵀ.
pub(crate) fn gram_of(x: &Tensor, axis: usize) -> Result<Tensor> {
    let x = unfolded(x, axis)?;
    x.matmul(&x.transpose(0, 1)?)
}

/// [`times`] as operations on tensors.
pub(crate) fn times_of(
    x: &Tensor,
    axis: usize,
    matrix: &Tensor,
    transposed: bool,
) -> Result<Tensor> {
    let front = *x.transpose(0, axis as isize)?.shape();
    let x = unfolded(x, axis)?;
    let product = if transposed { matrix.transpose(0, 1)?.matmul(&x) } else { matrix.matmul(&x) };
    product?.reshape(front)?.transpose(0, axis as isize)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One entry of X ×ᵢ M by the definition, for dims (2, 3, 2).
    #[test]
    fn a_product_along_an_axis_is_the_sum_over_that_axis() {
        let dims = [2, 3, 2];
        let x: Vec<f64> = (0..12).map(|i| f64::from(i) * 0.5 - 2.0).collect();
        let m: Vec<f64> = (0..9).map(|i| f64::from(i * i) - 3.0).collect();
        let y = times(&x, &dims, 1, &m, false);
        let z = times(&x, &dims, 1, &m, true);
        for (i, j, k) in (0..12).map(|n| (n / 6, n / 2 % 3, n % 2)) {
            let sum = |entry: &dyn Fn(usize) -> f64| -> f64 {
                (0..3).map(|l| entry(l) * x[i * 6 + l * 2 + k]).sum()
            };
            assert!((y[i * 6 + j * 2 + k] - sum(&|l| m[j * 3 + l])).abs() < 1e-12);
            assert!((z[i * 6 + j * 2 + k] - sum(&|l| m[l * 3 + j])).abs() < 1e-12);
        }
    }

    #[test]
    fn operations_on_tensors_are_those_on_slices() {
        let dims = [2, 3, 4];
        let x: Vec<f64> = (0..24).map(|i| f64::from(i * i % 17) - 5.0).collect();
        let tensor = Tensor::from_slice(&x, dims).unwrap();
        for (axis, n) in dims.into_iter().enumerate() {
            let m: Vec<f64> = (0..n * n).map(|i| (i * i % 7) as f64 - 3.0).collect();
            let matrix = Tensor::from_slice(&m, [n, n]).unwrap();
            for flip in [false, true] {
                let product = times_of(&tensor, axis, &matrix, flip).unwrap();
                assert_eq!(product.to_f64_vec().unwrap(), times(&x, &dims, axis, &m, flip));
            }
            let mut moment = vec![0.0; n * n];
            gram(&x, &dims, axis, (0.0, 1.0), &mut moment);
            assert_eq!(gram_of(&tensor, axis).unwrap().to_f64_vec().unwrap(), moment);
        }
    }

    #[test]
    fn second_moments_of_all_axes_have_the_trace_of_the_square() {
        let dims = [2, 3, 2];
        let x: Vec<f64> = (0..12).map(|i| f64::from(i % 5) - 1.5).collect();
        let square: f64 = x.iter().map(|x| x * x).sum();
        for (axis, &dim) in dims.iter().enumerate() {
            let mut out = vec![1.0; dim * dim];
            gram(&x, &dims, axis, (0.0, 2.0), &mut out);
            let trace: f64 = out.iter().step_by(dim + 1).sum();
            assert!((trace - 2.0 * square).abs() < 1e-12);
            let mut entry = 0.0;
            let (rows, columns) = slab(&dims, axis);
            for stack in x.chunks_exact(rows * columns) {
                entry += (0..columns).map(|c| stack[c] * stack[columns + c]).sum::<f64>();
            }
            assert!((out[1] - 2.0 * entry).abs() < 1e-12);
        }
    }
}
