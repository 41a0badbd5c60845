//! Bounds on eigenvalues from the entries of a matrix.  Gershgorin 1931.

use std::ops::RangeInclusive;

/// An interval that holds all eigenvalues of a symmetric matrix: the union of the discs around each
/// diagonal entry, whose radius is the sum of the row's other sizes.
///
/// # Shape
/// matrix: `[n, n]`, row-major
///
/// # Example
/// ```
/// use alcyon_optim::audit::gershgorin;
/// assert_eq!(gershgorin(&[2.0, -1.0, -1.0, 5.0], 2), 1.0..=6.0);
/// ```
#[must_use]
pub fn gershgorin(matrix: &[f64], n: usize) -> RangeInclusive<f64> {
    let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
    for (i, row) in matrix.chunks_exact(n.max(1)).enumerate() {
        let radius = row.iter().map(|x| x.abs()).sum::<f64>() - row[i].abs();
        (low, high) = (low.min(row[i] - radius), high.max(row[i] + radius));
    }
    low..=high
}
