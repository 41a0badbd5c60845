//! An orthonormal basis of the columns of a square matrix: the Q of A = Q·R.
//!
//! Householder reflections, so Q is orthogonal to rounding even where A is singular. Golub & Van Loan
//! 2013, *Matrix Computations*, section 5.2.

use super::reflections::{BLOCK, Order, Reflection, reflect, reflect_all, reflection};
use super::{LinalgError, check, zeros};
use crate::pool::{Buffer, or_out_of_memory};
use crate::transpose::transpose;

/// Columns that are reflected one by one.
const SMALL: usize = 8;

/// Q of A = Q·R, row-major; R has no negative number on its diagonal, which makes Q unique for a
/// regular A.
///
/// # Shape
/// a, result: \[n, n\]
///
/// # Errors
/// [`LinalgError::Length`], [`LinalgError::NotFinite`], [`LinalgError::OutOfMemory`].
///
/// # Example
/// ```
/// let q = alcyon_kernels::linalg::orthonormal(&[3.0, 1.0, 4.0, 1.0], 2)?;
/// assert!((q[0] - 0.6).abs() < 1e-15 && (q[2] - 0.8).abs() < 1e-15);
/// # Ok::<(), alcyon_kernels::linalg::LinalgError>(())
/// ```
pub fn orthonormal(a: &[f64], n: usize) -> Result<Vec<f64>, LinalgError> {
    check("orthonormal", a, n, 5)?;
    let mut out = zeros(n * n)?;
    or_out_of_memory(|| transpose(&basis(a, n), (n, n), n, &mut out))?;
    Ok(out)
}

/// The columns of Q as rows.
fn basis(a: &[f64], n: usize) -> Buffer<f64> {
    // The rows of these are the columns of A and Q.
    let (mut r, mut q) = (Buffer::unspecified(n * n), Buffer::zeros(n * n));
    transpose(a, (n, n), n, &mut r);
    let mut v = Buffer::zeros(n * n);
    let mut taus = vec![0.0; n];
    for from in (0..n).step_by(BLOCK) {
        let to = n.min(from + BLOCK);
        eliminate(&mut r, &mut v, &mut taus, n, [from, to]);
        let (vectors, taus) = (part(&v, n, [from, to]), &taus[from..to]);
        let right = &mut r[to * n..];
        reflect_all(
            (right.get_mut(from..).unwrap_or_default(), n),
            n - to,
            &vectors,
            taus,
            Order::Forward,
        );
    }
    // Q = H₁H₂…, from the last on: a block leaves the columns before it as they are.
    (0..n).for_each(|j| q[j * n + j] = 1.0);
    for from in (0..n).step_by(BLOCK).rev() {
        let to = n.min(from + BLOCK);
        let (vectors, taus) = (part(&v, n, [from, to]), &taus[from..to]);
        reflect_all((&mut q[from * n + from..], n), n - from, &vectors, taus, Order::Backward);
    }
    for (j, row) in q.chunks_exact_mut(n.max(1)).enumerate() {
        if r[j * n + j] < 0.0 {
            row.iter_mut().for_each(|q| *q = -*q);
        }
    }
    q
}

/// The vectors of some reflections, from the first one's pivot on: before it they are 0.
fn part(v: &[f64], n: usize, [from, to]: [usize; 2]) -> Vec<f64> {
    v[from * n..to * n].chunks_exact(n).flat_map(|v| &v[from..]).copied().collect()
}

/// Makes the rows `from..to` of r zero behind the diagonal; the reflections that do it are left in v and taus.
fn eliminate(r: &mut [f64], v: &mut [f64], taus: &mut [f64], n: usize, [from, to]: [usize; 2]) {
    if to - from > SMALL {
        let half = from.midpoint(to);
        eliminate(r, v, taus, n, [from, half]);
        let vectors = part(v, n, [from, half]);
        let rows = (&mut r[half * n + from..], n);
        reflect_all(rows, to - half, &vectors, &taus[from..half], Order::Forward);
        return eliminate(r, v, taus, n, [half, to]);
    }
    for k in from..to {
        let (row, below) = r[k * n..to * n].split_at_mut(n);
        let v = &mut v[k * n + k..(k + 1) * n];
        v.copy_from_slice(&row[k..]);
        let Reflection { tau, beta } = reflection(v, 0);
        (taus[k], row[k]) = (tau, beta);
        below.chunks_exact_mut(n).for_each(|row| reflect(&mut row[k..], v, tau));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::linalg::examples::{identity, product};
    use crate::oracle::noise;

    fn transposed(a: &[f64], n: usize) -> Vec<f64> {
        (0..n * n).map(|at| a[at % n * n + at / n]).collect()
    }

    #[test]
    fn the_columns_are_orthonormal_and_span_those_of_the_matrix() {
        for n in (0..=12).chain([33, 40, 100]) {
            let a = noise::<f64>(n * n, n as u64);
            let q = orthonormal(&a, n).unwrap();
            let gram = product(&transposed(&q, n), &q, n);
            let bound = 1e-13 * (n as f64 / 12.0).max(1.0);
            assert!(gram.iter().zip(identity(n)).all(|(x, y)| (x - y).abs() < bound), "{n}");
            // R = Qᵀ A is triangular with a positive diagonal.
            let r = product(&transposed(&q, n), &a, n);
            for (at, &r) in r.iter().enumerate() {
                let (i, j) = (at / n, at % n);
                assert!(if i > j { r.abs() < 10.0 * bound } else { i < j || r > 0.0 }, "{n}: {at}");
            }
        }
    }

    #[test]
    fn a_singular_matrix_still_gets_a_whole_basis() {
        let q = orthonormal(&[1.0, 2.0, 0.0, 2.0, 4.0, 0.0, 0.0, 0.0, 0.0], 3).unwrap();
        let gram = product(&transposed(&q, 3), &q, 3);
        assert!(gram.iter().zip(identity(3)).all(|(x, y)| (x - y).abs() < 1e-13));
    }
}
