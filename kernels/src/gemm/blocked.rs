//! The second rung: a tile of B, copied to contiguous memory, is used by every row of A while it
//! is in cache, and the innermost loop runs along rows of C and of the tile.

use super::{Matrix, check, scale};
use crate::float::Float;
use crate::pool::Buffer;

/// Rows and columns of the tile of B: 64 KiB in f32, which a second-level cache holds.
const TILE: (usize, usize) = (64, 256);

/// C = α·A·B + β·C in tiles, on one thread.
///
/// # Panics
/// If the shapes do not fit.
///
/// # Example
/// ```
/// use alcyon_kernels::gemm::{Matrix, blocked};
/// let mut c = [f64::NAN; 4];
/// let a = Matrix::new(&[1.0, 2.0, 3.0, 4.0], 2, 2);
/// blocked::gemm(1.0, a, a.t(), 0.0, &mut c);
/// assert_eq!(c, [5.0, 11.0, 11.0, 25.0]);
/// ```
pub fn gemm<T: Float>(alpha: T, a: Matrix<'_, T>, b: Matrix<'_, T>, beta: T, c: &mut [T]) {
    let (_, k, n) = check(a, b, c);
    scale(beta, c);
    let mut tile = Buffer::<T>::unspecified(TILE.0 * TILE.1);
    // LOOP 1 and 2: the tiles of B.
    for top in (0..k).step_by(TILE.0) {
        let height = TILE.0.min(k - top);
        for left in (0..n).step_by(TILE.1) {
            let width = TILE.1.min(n - left);
            for (l, row) in tile.chunks_exact_mut(width).take(height).enumerate() {
                for (j, x) in row.iter_mut().enumerate() {
                    *x = b.get(top + l, left + j);
                }
            }
            // LOOP 3: the rows of C.
            for (i, line) in c.chunks_exact_mut(n).enumerate() {
                let line = &mut line[left..left + width];
                // LOOP 4 and 5: add multiples of the rows of the tile.
                for (l, row) in tile.chunks_exact(width).take(height).enumerate() {
                    let factor = alpha * a.get(i, top + l);
                    for (c, &b) in line.iter_mut().zip(row) {
                        *c += factor * b;
                    }
                }
            }
        }
    }
}
