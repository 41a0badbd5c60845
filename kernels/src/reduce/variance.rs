//! Variances of rows, carried in f64.

use super::{sum_of, total};
use crate::float::Float;
use crate::parallel;
use crate::sizes::elements;

/// out\[r\] = (1/n) Σᵢ (x\[r, i\] − mean)², where mean is that of row r; both sums are carried in f64.
///
/// # Example
/// ```
/// let mut out = [0.0_f32; 2];
/// alcyon_kernels::reduce::variance_axis(&[1.0, 5.0, 1e6, 1e6 + 1.0], 2, &mut out);
/// assert_eq!(out, [4.0, 0.25]);
/// ```
pub fn variance_axis<T: Float>(x: &[T], n: usize, out: &mut [T]) {
    assert_eq!(x.len(), elements("variance_axis", [out.len(), n]), "variance_axis: lengths");
    parallel::rows(
        out,
        1,
        2 * n,
        #[inline(always)]
        |r, out| {
            let row = &x[r * n..(r + 1) * n];
            let mean = total(row) / n as f64;
            let square = |x: f64, _: f64| (x - mean) * (x - mean);
            out[0] = T::of(sum_of(row, row, square) / n as f64);
        },
    );
}
