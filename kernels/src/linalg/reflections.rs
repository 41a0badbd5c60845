//! Householder reflections, H = I − τ·v·vᵀ, and products of many at once.
//!
//! H₁H₂…Hₖ = I − Vᵀ·T·V, where the rows of V are the vectors and T is upper triangular (Schreiber & Van Loan 1989,
//! *A storage-efficient WY representation for products of Householder transformations*). So k reflections of a
//! matrix are three products of matrices.

use super::rows::{add_multiples, dot, power_of_two};
use crate::gemm::{Matrix, into_strided};
use crate::pool::Buffer;

/// Reflections that are applied at once.
pub(super) const BLOCK: usize = 32;

/// A reflection that maps a vector x to β·e, where e is the unit vector of `pivot`.
pub(super) struct Reflection {
    /// 0 where x is a multiple of e already: H is the identity then.
    pub(super) tau: f64,
    /// What the entry of the pivot becomes; all others become 0.
    pub(super) beta: f64,
}

/// Replaces x by v, with v\[pivot\] = 1.
pub(super) fn reflection(x: &mut [f64], pivot: usize) -> Reflection {
    if x.iter().enumerate().all(|(i, x)| i == pivot || *x == 0.0) {
        let beta = std::mem::replace(&mut x[pivot], 1.0);
        return Reflection { tau: 0.0, beta };
    }
    let unit = power_of_two(x);
    x.iter_mut().for_each(|x| *x /= unit);
    let alpha = x[pivot];
    let beta = -dot(x, x).sqrt().copysign(alpha);
    let length = alpha - beta;
    x.iter_mut().for_each(|x| *x /= length);
    x[pivot] = 1.0;
    Reflection { tau: -length / beta, beta: beta * unit }
}

/// row ← row·H
pub(super) fn reflect(row: &mut [f64], v: &[f64], tau: f64) {
    let along = dot(row, v);
    add_multiples(row, &[-tau * along], v, v.len());
}

/// Which way a product of reflections runs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Order {
    /// H₁H₂…Hₖ
    Forward,
    /// Hₖ…H₂H₁
    Backward,
}

/// Rows ← rows·H₁H₂…Hₖ, or in the other order.
///
/// # Shape
/// rows: \[m, length\], `stride` apart · v: \[k, length\] · taus: \[k\]
pub(super) fn reflect_all(
    (rows, stride): (&mut [f64], usize),
    m: usize,
    v: &[f64],
    taus: &[f64],
    order: Order,
) {
    let (k, length) = (taus.len(), v.len() / taus.len().max(1));
    if m == 0 || k == 0 {
        return;
    }
    let v = Matrix::new(v, k, length);
    let t = combined(v, taus);
    let t = Matrix::new(&t, k, k);
    let t = if order == Order::Forward { t } else { t.t() };
    let (mut along, mut step) = (Buffer::unspecified(m * k), Buffer::unspecified(m * k));
    let all = Matrix::strided(rows, m, length, stride, 1);
    into_strided(true, 1.0, all, v.t(), 0.0, (&mut along, k));
    into_strided(true, 1.0, Matrix::new(&along, m, k), t, 0.0, (&mut step, k));
    into_strided(true, -1.0, Matrix::new(&step, m, k), v, 1.0, (rows, stride));
}

/// The T of H₁H₂…Hₖ, column by column: Tⱼⱼ = τⱼ, and above it −τⱼ·T·(V·vⱼ).
fn combined(v: Matrix<'_, f64>, taus: &[f64]) -> Buffer<f64> {
    let k = taus.len();
    let (mut gram, mut t) = (Buffer::unspecified(k * k), Buffer::zeros(k * k));
    into_strided(true, 1.0, v, v.t(), 0.0, (&mut gram, k));
    for (j, tau) in taus.iter().enumerate() {
        for i in 0..j {
            let sum: f64 = (i..j).map(|l| t[i * k + l] * gram[l * k + j]).sum();
            t[i * k + j] = -tau * sum;
        }
        t[j * k + j] = *tau;
    }
    t
}
