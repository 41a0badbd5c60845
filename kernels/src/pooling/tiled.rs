//! The maximum under windows that tile the image: K × K, K apart, without padding. Every pixel is read
//! once and nothing is asked about edges.

use crate::float::Float;
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

/// The tiles of a row that are compared at one time.
const LANES: usize = 8;

impl<T: Float, const K: usize> Vectorised for MaxPool<'_, T, K> {
    type Output = ();

    #[inline(always)]
    fn run<M: Machine>(self) {
        let Self { x, w, ow, y, at } = self;
        let outputs = y.chunks_exact_mut(ow).zip(at.chunks_exact_mut(ow));
        for (p, (y, at)) in outputs.enumerate() {
            let rows: [&[[T; K]]; K] =
                std::array::from_fn(|i| &x[(p * K + i) * w..][..ow * K].as_chunks().0[..ow]);
            let mut write = |q: usize, (max, offset): (T, u32)| {
                y[q] = max;
                at[q] = (p * K * w + q * K) as i64 + i64::from(offset);
            };
            let whole = ow - ow % LANES;
            for q in (0..whole).step_by(LANES) {
                let (max, offset) = maxima::<T, K, LANES>(rows, q, w);
                (0..LANES).for_each(|lane| write(q + lane, (max[lane], offset[lane])));
            }
            for q in whole..ow {
                let ([max], [offset]) = maxima::<T, K, 1>(rows, q, w);
                write(q, (max, offset));
            }
        }
    }
}

/// The maxima of `L` neighbouring tiles, and where they are from each tile's corner. Written without
/// branches: of random numbers none could be predicted.
#[inline(always)]
fn maxima<T: Float, const K: usize, const L: usize>(
    rows: [&[[T; K]]; K],
    first: usize,
    w: usize,
) -> ([T; L], [u32; L]) {
    let rows = rows.map(|row| &row[first..first + L]);
    let mut max: [T; L] = std::array::from_fn(|lane| rows[0][lane][0]);
    let mut offset = [0; L];
    for (i, row) in rows.iter().enumerate() {
        for j in 0..K {
            for (lane, tile) in row.iter().enumerate() {
                let x = tile[j];
                let larger = (x > max[lane]) | (x.is_nan() & !max[lane].is_nan());
                max[lane] = if larger { x } else { max[lane] };
                offset[lane] = if larger { (i * w + j) as u32 } else { offset[lane] };
            }
        }
    }
    (max, offset)
}
