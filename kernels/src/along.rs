//! Elements picked along an axis by an index of their own, and their adjoint.
//!
//! take: out\[o, j, i\] = x\[o, index\[o, j, i\], i\].   add: the g of all that came from a place, summed.

use crate::float::Float;
use crate::index::check;
use crate::parallel;

/// out\[o, j, i\] = x\[o, index\[o, j, i\], i\]
///
/// # Shape
/// x: \[outer, n, inner\] · index, out: \[outer, k, inner\], each index in 0..n
///
/// # Example
/// ```
/// let mut out = [0.0; 2];
/// alcyon_kernels::along::take(&[1.0, 2.0, 3.0, 4.0], 2, 2, 1, &[1, 0], 1, &mut out); // two rows
/// assert_eq!(out, [2.0, 3.0]);
/// ```
pub fn take<T: Float>(
    x: &[T],
    outer: usize,
    n: usize,
    inner: usize,
    index: &[i64],
    k: usize,
    out: &mut [T],
) {
    assert_eq!(index.len(), out.len(), "take: one index for each element");
    check("take", (x.len(), out.len()), (outer, n, inner), k, index);
    parallel::rows(out, k * inner, 2 * k * inner, |o, out| {
        let index = &index[o * k * inner..(o + 1) * k * inner];
        let x = &x[o * n * inner..(o + 1) * n * inner];
        for (at, (out, &row)) in out.iter_mut().zip(index).enumerate() {
            *out = x[row as usize * inner + at % inner];
        }
    });
}

/// out\[o, r, i\] = Σ over j with index\[o, j, i\] = r of g\[o, j, i\], added in the order of j.
///
/// # Shape
/// g, index: \[outer, k, inner\], each index in 0..n · out: \[outer, n, inner\]
///
/// # Example
/// ```
/// let mut out = [f64::NAN; 2];
/// alcyon_kernels::along::add(&[1.0, 10.0, 100.0], 1, 2, 1, &[1, 0, 1], 3, &mut out);
/// assert_eq!(out, [10.0, 101.0]);
/// ```
pub fn add<T: Float>(
    g: &[T],
    outer: usize,
    n: usize,
    inner: usize,
    index: &[i64],
    k: usize,
    out: &mut [T],
) {
    assert_eq!(index.len(), g.len(), "add: one index for each element");
    check("add", (out.len(), g.len()), (outer, n, inner), k, index);
    parallel::rows(out, n * inner, (n + 2 * k) * inner, |o, out| {
        out.fill(T::ZERO);
        let taken = o * k * inner..(o + 1) * k * inner;
        for (at, (&g, &row)) in g[taken.clone()].iter().zip(&index[taken]).enumerate() {
            out[row as usize * inner + at % inner] += g;
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{inner_product, noise, unwritten};

    #[test]
    fn taking_and_adding_are_adjoint() {
        for (outer, n, inner, k) in [(2, 3, 4, 5), (1, 4, 1, 2), (3, 2, 1, 0), (0, 2, 3, 1)] {
            let x = noise::<f64>(outer * n * inner, 1);
            let g = noise::<f64>(outer * k * inner, 2);
            let index: Vec<i64> = (0..g.len()).map(|i| (7 * i % n) as i64).collect();
            let (mut y, mut dx) = (unwritten(g.len()), unwritten(x.len()));
            take(&x, outer, n, inner, &index, k, &mut y);
            add(&g, outer, n, inner, &index, k, &mut dx);
            assert!((inner_product(&y, &g) - inner_product(&x, &dx)).abs() < 1e-13);
            for (at, y) in y.iter().enumerate() {
                let (o, i) = (at / (k * inner), at % inner);
                assert_eq!(*y, x[(o * n + index[at] as usize) * inner + i]);
            }
        }
    }
}
