//! The maximum under windows that tile the image: K × K, K apart, without padding. Every pixel is read
//! once and nothing is asked about edges.

use crate::float::Float;
use crate::reduce::exceeds;
use crate::simd::{Machine, Vectorised};
use crate::unfold::Window;

/// Whether windows of K × K tile their image.
pub(super) fn fits<const K: usize>(window: &Window) -> bool {
    *window == Window { stride: (K, K), ..Window::new((K, K)) }
}

/// One plane: y\[p, q\] = the maximum of its tile of x \[.., w\], at the place `at` in the plane.
pub(super) struct MaxPool<'a, T, const K: usize> {
    pub(super) x: &'a [T],
    pub(super) w: usize,
    /// The tiles in a row.
    pub(super) ow: usize,
    pub(super) y: &'a mut [T],
    pub(super) at: &'a mut [i64],
}

impl<T: Float, const K: usize> Vectorised for MaxPool<'_, T, K> {
    type Output = ();

    #[inline(always)]
    fn run<M: Machine>(self) {
        let Self { x, w, ow, y, at } = self;
        let outputs = y.chunks_exact_mut(ow).zip(at.chunks_exact_mut(ow));
        for (p, (y, at)) in outputs.enumerate() {
            let rows: [&[[T; K]]; K] =
                std::array::from_fn(|i| &x[(p * K + i) * w..][..ow * K].as_chunks().0[..ow]);
            for (q, (y, at)) in y.iter_mut().zip(at).enumerate() {
                let (mut max, mut offset) = (rows[0][q][0], 0);
                for (i, row) in rows.iter().enumerate() {
                    for (j, &x) in row[q].iter().enumerate() {
                        let larger = exceeds(x, max);
                        max = if larger { x } else { max };
                        offset = if larger { i * w + j } else { offset };
                    }
                }
                *y = max;
                *at = (p * K * w + q * K + offset) as i64;
            }
        }
    }
}
