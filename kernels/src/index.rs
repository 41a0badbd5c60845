//! Rows picked by number, and their adjoint: rows added back where they came from.
//!
//! gather: out\[j\] = table\[index\[j\]\].   scatter-add: out\[r\] = Σ over j with index\[j\] = r of g\[j\].
//! Both are adjoint to each other: ⟨gather(x), g⟩ = ⟨x, scatter(g)⟩.

use crate::float::Float;
use crate::parallel;
use crate::sizes::elements;

/// out\[j\] = table\[rows\[j\]\]
///
/// # Shape
/// table: \[V, width\] · rows: \[J\], each in 0..V · out: \[J, width\]
///
/// # Example
/// ```
/// let mut out = [0.0; 4];
/// alcyon_kernels::index::gather_rows(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 2, &[2, 0], &mut out);
/// assert_eq!(out, [5.0, 6.0, 1.0, 2.0]);
/// ```
pub fn gather_rows<T: Copy + Send + Sync>(table: &[T], width: usize, rows: &[i64], out: &mut [T]) {
    let n = table.len().checked_div(width).unwrap_or(0);
    gather_axis(table, 1, n, width, rows, rows.len(), out);
}

/// out\[r\] = Σ over j with rows\[j\] = r of g\[j\], added in the order of j.
///
/// # Shape
/// g: \[J, width\] · rows: \[J\], each in 0..V · out: \[V, width\]
///
/// # Example
/// ```
/// let mut out = [f64::NAN; 3];
/// alcyon_kernels::index::scatter_add_rows(&[1.0, 10.0, 100.0], 1, &[2, 0, 2], &mut out);
/// assert_eq!(out, [10.0, 0.0, 101.0]);
/// ```
pub fn scatter_add_rows<T: Float>(g: &[T], width: usize, rows: &[i64], out: &mut [T]) {
    let n = out.len().checked_div(width).unwrap_or(0);
    check("scatter_add_rows", (out.len(), g.len()), (1, n, width), rows.len(), rows);
    add_rows(g, width, rows, out);
}

fn add_rows<T: Float>(g: &[T], width: usize, rows: &[i64], out: &mut [T]) {
    // Every piece of the table reads all numbers and takes its own: no two threads share a row.
    parallel::pieces(out, width, |start, out| {
        out.fill(T::ZERO);
        let first = start / width;
        for (&row, g) in rows.iter().zip(g.chunks_exact(width)) {
            let at = (row as usize).wrapping_sub(first).saturating_mul(width);
            if let Some(out) = out.get_mut(at..at.saturating_add(width)) {
                add(g, out);
            }
        }
    });
}

/// out\[o, j, i\] = x\[o, index\[j\], i\]
///
/// # Shape
/// x: \[outer, n, inner\] · index: \[k\], each in 0..n · out: \[outer, k, inner\]
///
/// # Example
/// ```
/// let mut last_first = [0.0; 4];
/// let x = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]; // [2, 3]
/// alcyon_kernels::index::gather_axis(&x, 2, 3, 1, &[2, 0], 2, &mut last_first);
/// assert_eq!(last_first, [3.0, 1.0, 6.0, 4.0]);
/// ```
pub fn gather_axis<T: Copy + Send + Sync>(
    x: &[T],
    outer: usize,
    n: usize,
    inner: usize,
    index: &[i64],
    k: usize,
    out: &mut [T],
) {
    assert_eq!(index.len(), k, "gather: length of the index");
    check("gather", (x.len(), out.len()), (outer, n, inner), k, index);
    parallel::rows(out, inner, inner, |row, out| {
        let from = (row / k * n + index[row % k] as usize) * inner;
        out.copy_from_slice(&x[from..from + inner]);
    });
}

/// out\[o, r, i\] = Σ over j with index\[j\] = r of g\[o, j, i\], added in the order of j.
///
/// # Shape
/// g: \[outer, k, inner\] · index: \[k\], each in 0..n · out: \[outer, n, inner\]
///
/// # Example
/// ```
/// let mut out = [f64::NAN; 4];
/// alcyon_kernels::index::scatter_add_axis(&[1.0, 2.0, 3.0, 4.0], 2, 2, 1, &[1, 1], 2, &mut out);
/// assert_eq!(out, [0.0, 3.0, 0.0, 7.0]);
/// ```
pub fn scatter_add_axis<T: Float>(
    g: &[T],
    outer: usize,
    n: usize,
    inner: usize,
    index: &[i64],
    k: usize,
    out: &mut [T],
) {
    assert_eq!(index.len(), k, "scatter_add_axis: length of the index");
    check("scatter_add_axis", (out.len(), g.len()), (outer, n, inner), k, index);
    if outer == 1 && inner > 0 {
        return add_rows(g, inner, index, out);
    }
    parallel::rows(out, n * inner, k * inner, |o, out| {
        out.fill(T::ZERO);
        for (j, &row) in index.iter().enumerate() {
            let (from, to) = ((o * k + j) * inner, row as usize * inner);
            add(&g[from..from + inner], &mut out[to..to + inner]);
        }
    });
}

/// Asserts that the whole is \[outer, n, inner\], what is taken of it \[outer, k, inner\], and every index
/// in 0..n.
pub(crate) fn check(
    kernel: &str,
    (whole, taken): (usize, usize),
    (outer, n, inner): (usize, usize, usize),
    k: usize,
    index: &[i64],
) {
    assert_eq!(whole, elements(kernel, [outer, n, inner]), "{kernel}: length of the whole");
    assert_eq!(taken, elements(kernel, [outer, k, inner]), "{kernel}: length of the taken");
    let outside = index.iter().find(|&&i| usize::try_from(i).map_or(true, |i| i >= n));
    assert!(outside.is_none(), "{kernel}: index {outside:?} outside of 0..{n}");
}

#[inline(always)]
fn add<T: Float>(g: &[T], out: &mut [T]) {
    for (out, &g) in out.iter_mut().zip(g) {
        *out += g;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{
        assert_same_bits_for_any_number_of_threads, inner_product, noise, unwritten,
    };

    fn numbers(len: usize, n: usize) -> Vec<i64> {
        noise::<f64>(len, 77).iter().map(|x| ((x + 1.0) / 2.0 * n as f64) as i64).collect()
    }

    #[test]
    fn scatter_is_the_adjoint_of_gather() {
        for (outer, n, inner, k) in [
            (1, 5, 3, 9),
            (4, 6, 2, 3),
            (3, 4, 1, 0),
            (2, 3, 0, 2),
            (0, 2, 2, 2),
            (1, 50, 700, 400),
        ] {
            let (x, g) = (noise(outer * n * inner, 1), noise(outer * k * inner, 2));
            let index = numbers(k, n);
            let (mut there, mut back) = (unwritten(g.len()), unwritten(x.len()));
            gather_axis(&x, outer, n, inner, &index, k, &mut there);
            scatter_add_axis(&g, outer, n, inner, &index, k, &mut back);
            let (left, right) = (inner_product(&there, &g), inner_product(&x, &back));
            assert!((left - right).abs() < 1e-9 * left.abs().max(1.0), "{left} {right}");
            for (row, out) in there.chunks_exact(inner.max(1)).enumerate() {
                let from = (row / k * n + index[row % k] as usize) * inner;
                assert_eq!(out, &x[from..from + inner]);
            }
        }
    }

    #[test]
    fn threads_do_not_change_the_order_of_additions() {
        let (g, rows) = (noise::<f32>(5000 * 31, 3), numbers(5000, 3000));
        assert_same_bits_for_any_number_of_threads(|| {
            let mut out = unwritten(3000 * 31);
            scatter_add_rows(&g, 31, &rows, &mut out);
            out
        });
    }

    #[test]
    #[should_panic(expected = "gather: index Some(-1) outside of 0..2")]
    fn a_negative_number_is_refused() {
        gather_rows(&[1.0, 2.0], 1, &[0, -1], &mut [0.0; 2]);
    }
}
