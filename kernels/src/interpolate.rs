//! Images at another resolution. Along each axis an output is a mean of two inputs, `first` and
//! `second`, with the weight w for the second: a linear map, whose adjoint adds back by the same weights.

use crate::float::Float;
use crate::parallel;
use crate::sizes::elements;

/// Where an output coordinate comes from, along one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tap<T> {
    /// The input before it.
    pub first: usize,
    /// The input after it; the same at an edge.
    pub second: usize,
    /// The weight of the second; the first has 1 − w.
    pub weight: T,
}

/// How output coordinates are laid over input coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sampling {
    /// The input whose cell the output's cell begins in: ⌊i · n / m⌋.
    Nearest,
    /// Linear between the centres of cells: (i + 1/2) n / m − 1/2, not before the first centre.
    Linear,
    /// Linear, with the first and the last centres on each other: i (n − 1) / (m − 1).
    LinearAligned,
}

impl Sampling {
    /// The taps of `m` outputs over `n` inputs.
    ///
    /// # Example
    /// ```
    /// use alcyon_kernels::interpolate::{Sampling, Tap};
    /// let taps = Sampling::LinearAligned.taps::<f64>(2, 3);
    /// assert_eq!(taps[1], Tap { first: 0, second: 1, weight: 0.5 });
    /// ```
    #[must_use]
    pub fn taps<T: Float>(self, n: usize, m: usize) -> Vec<Tap<T>> {
        assert!(n > 0 || m == 0, "Sampling::taps: {m} outputs of no input");
        let _ = elements("Sampling::taps", [n, m]);
        let tap = |i: usize| {
            let at = match self {
                Self::Nearest => (i * n / m) as f64,
                Self::Linear => ((i as f64 + 0.5) * n as f64 / m as f64 - 0.5).max(0.0),
                Self::LinearAligned if m > 1 => (i * (n - 1)) as f64 / (m - 1) as f64,
                Self::LinearAligned => 0.0,
            };
            let first = (at as usize).min(n - 1);
            let second = (first + 1).min(n - 1);
            Tap { first, second, weight: T::of(at - first as f64) }
        };
        (0..m).map(tap).collect()
    }
}

/// Every plane of x at the coordinates that the taps name.
///
/// # Shape
/// x: \[planes, h, w\] · out: \[planes, rows, columns\], as many as there are taps
///
/// # Example
/// ```
/// use alcyon_kernels::interpolate::{Sampling, interpolate};
/// let mut out = [0.0; 3];
/// let (rows, columns) = (Sampling::Nearest.taps(1, 1), Sampling::LinearAligned.taps(2, 3));
/// interpolate(&[1.0, 3.0], (1, 2), &rows, &columns, &mut out);
/// assert_eq!(out, [1.0, 2.0, 3.0]);
/// ```
pub fn interpolate<T: Float>(
    x: &[T],
    (h, w): (usize, usize),
    rows: &[Tap<T>],
    columns: &[Tap<T>],
    out: &mut [T],
) {
    let size = elements("interpolate", [rows.len(), columns.len()]);
    check("interpolate", (h, w), size, x.len(), out.len());
    parallel::rows(out, size, 4 * size, |plane, out| {
        let x = &x[plane * h * w..(plane + 1) * h * w];
        for (out, row) in out.chunks_exact_mut(columns.len()).zip(rows) {
            let (above, below) = (&x[row.first * w..][..w], &x[row.second * w..][..w]);
            for (out, column) in out.iter_mut().zip(columns) {
                let across = |x: &[T]| mean(x[column.first], x[column.second], column.weight);
                *out = mean(across(above), across(below), row.weight);
            }
        }
    });
}

/// The adjoint of [`interpolate()`]: dx from g, plane by plane, in the order of g.
///
/// # Shape
/// g: \[planes, rows, columns\] · dx: \[planes, h, w\]
///
/// # Example
/// ```
/// use alcyon_kernels::interpolate::{Sampling, interpolate_backward};
/// let mut dx = [f64::NAN; 2];
/// let (rows, columns) = (Sampling::Nearest.taps(1, 1), Sampling::LinearAligned.taps(2, 3));
/// interpolate_backward(&[1.0, 4.0, 1.0], &rows, &columns, (1, 2), &mut dx);
/// assert_eq!(dx, [3.0, 3.0]);
/// ```
pub fn interpolate_backward<T: Float>(
    g: &[T],
    rows: &[Tap<T>],
    columns: &[Tap<T>],
    (h, w): (usize, usize),
    dx: &mut [T],
) {
    let size = elements("interpolate_backward", [rows.len(), columns.len()]);
    check("interpolate_backward", (h, w), size, dx.len(), g.len());
    parallel::rows(dx, h * w, h * w + 4 * size, |plane, dx| {
        dx.fill(T::ZERO);
        let g = &g[plane * size..(plane + 1) * size];
        for (g, row) in g.chunks_exact(columns.len()).zip(rows) {
            for (&g, column) in g.iter().zip(columns) {
                let (below, right) = (g * row.weight, column.weight);
                for (y, g) in [(row.first, g - below), (row.second, below)] {
                    dx[y * w + column.first] += g - g * right;
                    dx[y * w + column.second] += g * right;
                }
            }
        }
    });
}

/// Asserts that there are as many planes of h × w as of `size` numbers.
fn check(kernel: &str, (h, w): (usize, usize), size: usize, image: usize, result: usize) {
    let pixels = elements(kernel, [h, w]);
    let planes = image.checked_div(pixels).unwrap_or(0);
    let lengths = (elements(kernel, [planes, pixels]), elements(kernel, [planes, size]));
    assert_eq!((image, result), lengths, "{kernel}: as many planes");
}

/// (1 − w) a + w b, and a itself for w = 0 whatever b is.
fn mean<T: Float>(a: T, b: T, weight: T) -> T {
    if weight == T::ZERO { a } else { a + weight * (b - a) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, inner_product, noise, unwritten};

    const ALL: [Sampling; 3] = [Sampling::Nearest, Sampling::Linear, Sampling::LinearAligned];

    #[test]
    fn the_same_size_changes_nothing() {
        let x = noise::<f64>(2 * 3 * 4, 1);
        for sampling in ALL {
            let mut y = unwritten(x.len());
            interpolate(&x, (3, 4), &sampling.taps(3, 3), &sampling.taps(4, 4), &mut y);
            assert_eq!(x, y, "{sampling:?}");
        }
    }

    #[test]
    fn backward_is_the_adjoint() {
        for sampling in ALL {
            for (h, w, oh, ow) in [(2, 3, 5, 7), (5, 4, 2, 3), (1, 1, 3, 2), (3, 2, 1, 1)] {
                let (x, g) = (noise::<f64>(3 * h * w, 1), noise::<f64>(3 * oh * ow, 2));
                let (rows, columns) = (sampling.taps(h, oh), sampling.taps(w, ow));
                let (mut y, mut dx) = (unwritten(g.len()), unwritten(x.len()));
                interpolate(&x, (h, w), &rows, &columns, &mut y);
                interpolate_backward(&g, &rows, &columns, (h, w), &mut dx);
                assert!((inner_product(&y, &g) - inner_product(&x, &dx)).abs() < 1e-13);
            }
        }
    }

    /// x = its own coordinate stays linear: at the centres of cells, or from end to end.
    #[test]
    fn linear_sampling_reproduces_a_linear_image() {
        let x: Vec<f64> = (0..5).map(|i| f64::from(i) + 0.5).collect();
        let one = Sampling::Nearest.taps(1, 1);
        let mut y = unwritten(9);
        interpolate(&x, (1, 5), &one, &Sampling::Linear.taps(5, 9), &mut y);
        let centre = |i: usize| ((i as f64 + 0.5) * 5.0 / 9.0).clamp(0.5, 4.5);
        assert_close(&y, &(0..9).map(centre).collect::<Vec<_>>(), 1e-14);
        interpolate(&x, (1, 5), &one, &Sampling::LinearAligned.taps(5, 9), &mut y);
        let aligned: Vec<f64> = (0..9).map(|i| 0.5 + f64::from(i) / 2.0).collect();
        assert_close(&y, &aligned, 1e-14);
    }
}
