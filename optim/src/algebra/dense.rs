//! Small dense products on slices of f64, row-major, with the sizes at hand.

use engine::Error;
use kernels::elementwise;
use kernels::gemm::{Matrix, gemm};
use kernels::linalg::LinalgError;
use kernels::pool::Buffer;

/// A B, either of them transposed first. Sizes are those in memory.
pub(crate) fn product(
    a: &[f64],
    (rows, columns): (usize, usize),
    a_transposed: bool,
    b: &[f64],
    (b_rows, b_columns): (usize, usize),
    b_transposed: bool,
) -> Buffer<f64> {
    let (left, right) = (Matrix::new(a, rows, columns), Matrix::new(b, b_rows, b_columns));
    let left = if a_transposed { left.t() } else { left };
    let right = if b_transposed { right.t() } else { right };
    let mut out = Buffer::unspecified(left.rows() * right.cols());
    gemm(1.0, left, right, 0.0, &mut out);
    out
}

/// Vᵀ X U (into the columns of V and U), or V X Uᵀ (back).
///
/// # Shape
/// v: `[m, m]` · x: `[m, n]` · u: `[n, n]`
pub(crate) fn conjugated(
    v: &[f64],
    x: &[f64],
    u: &[f64],
    (m, n): (usize, usize),
    into: bool,
) -> Buffer<f64> {
    let left = product(v, (m, m), into, x, (m, n), false);
    product(&left, (m, n), false, u, (n, n), !into)
}

/// Mᵀ of a matrix with so many columns.
pub(crate) fn transposed(matrix: &[f64], columns: usize) -> Vec<f64> {
    let column = |j: usize| matrix.iter().skip(j).step_by(columns.max(1)).copied();
    (0..columns).flat_map(column).collect()
}

/// M x
pub(crate) fn apply(matrix: &[f64], x: &[f64]) -> Vec<f64> {
    matrix.chunks_exact(x.len().max(1)).map(|row| super::flat::dot(row, x)).collect()
}

/// M ← M + shift · I
pub(crate) fn shift(matrix: &mut [f64], n: usize, shift: f64) {
    matrix.iter_mut().step_by(n + 1).for_each(|x| *x += shift);
}

/// 1 − βᵗ: what divides the bias out of a moving average from zero.
pub(crate) fn correction(beta: f64, t: u64) -> f64 {
    1.0 - beta.powf(t as f64)
}

/// The error of a factorisation.
pub(crate) fn failed(error: &LinalgError) -> Error {
    failed_in("curvature", error)
}

/// The same in the name of another routine.
pub(crate) fn failed_in(routine: &'static str, error: &LinalgError) -> Error {
    match *error {
        LinalgError::OutOfMemory(refused) => Error::no_memory(routine)(refused),
        _ => Error::Linalg { routine, reason: error.to_string() },
    }
}

/// I
#[cfg(test)]
pub(crate) fn identity(n: usize) -> Vec<f64> {
    let mut out = vec![0.0; n * n];
    shift(&mut out, n, 1.0);
    out
}

/// tr M
pub(crate) fn trace(matrix: &[f64], n: usize) -> f64 {
    matrix.iter().step_by(n + 1).sum()
}

/// A running average from nothing, whose k-th entry has the weight (1 − β)/(1 − βᵏ).
pub(crate) fn average(old: &mut [f64], new: &[f64], k: u64, decay: f64) {
    let fresh = (1.0 - decay) / correction(decay, k.max(1));
    elementwise::update2(old, new, |old, new| old + fresh * (new - old));
}
