//! The third rung: both operands are copied to panels, so that the innermost loop reads memory in a
//! straight line, and a tile of C stays in registers while a whole sum runs over it.
//!
//! Five loops around a micro-kernel (Goto & van de Geijn 2008; the names are theirs). Each block has a
//! place in the hierarchy of memories: the tile of C in registers, a panel of B in the first cache, the
//! block of A in the second, the block of B in the third.

use super::{Matrix, check, scale};
use crate::float::Float;
use crate::pool::Buffer;
use crate::simd::{self, Machine, Vectorised};

/// Rows of the tile of C. With AVX2, 6 × 16 numbers of f32 are twelve of the sixteen registers.
const MR: usize = 6;
/// Columns of the tile of C.
const NR: usize = 16;
/// Rows of the block of A.
const MC: usize = 20 * MR;
/// Columns of A and rows of B in a block: the length of a sum in registers.
const KC: usize = 256;
/// Columns of the block of B.
const NC: usize = 128 * NR;

/// C = α·A·B + β·C in packed blocks, on one thread.
///
/// # Panics
/// If the shapes do not fit.
///
/// # Example
/// ```
/// use alcyon_kernels::gemm::{Matrix, packed};
/// let mut c = [f64::NAN; 4];
/// let a = Matrix::new(&[1.0, 2.0, 3.0, 4.0], 2, 2);
/// packed::gemm(1.0, a, a.t(), 0.0, &mut c);
/// assert_eq!(c, [5.0, 11.0, 11.0, 25.0]);
/// ```
pub fn gemm<T: Float>(alpha: T, a: Matrix<'_, T>, b: Matrix<'_, T>, beta: T, c: &mut [T]) {
    check(a, b, c);
    scale(beta, c);
    simd::run(AddProduct { alpha, a, b, c });
}

/// C += α·A·B
struct AddProduct<'a, T> {
    alpha: T,
    a: Matrix<'a, T>,
    b: Matrix<'a, T>,
    c: &'a mut [T],
}

impl<T: Float> Vectorised for AddProduct<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: Machine>(self) {
        let Self { alpha, a, b, c } = self;
        let (m, k, n) = (a.rows(), a.cols(), b.cols());
        let panels = |length: usize, most: usize, width: usize| {
            Buffer::<T>::unspecified(KC.min(k) * length.min(most).next_multiple_of(width))
        };
        let (mut block_a, mut block_b) = (panels(m, MC, MR), panels(n, NC, NR));
        let mut sums = [[T::ZERO; NR]; MR];
        // LOOP 5 and 4: blocks of B.
        for left in (0..n).step_by(NC) {
            let width = NC.min(n - left);
            for from in (0..k).step_by(KC) {
                let depth = KC.min(k - from);
                pack::<T, NR>(depth, width, |l, j| b.get(from + l, left + j), &mut block_b);
                // LOOP 3: blocks of A.
                for top in (0..m).step_by(MC) {
                    let height = MC.min(m - top);
                    let scaled = |l, i| alpha * a.get(top + i, from + l);
                    pack::<T, MR>(depth, height, scaled, &mut block_a);
                    // LOOP 2 and 1: a panel of B, which stays near, with each panel of A.
                    for (j, b) in (0..width).step_by(NR).zip(block_b.chunks_exact(depth * NR)) {
                        for (i, a) in (0..height).step_by(MR).zip(block_a.chunks_exact(depth * MR))
                        {
                            let size = (MR.min(height - i), NR.min(width - j));
                            let corner = (top + i) * n + left + j;
                            tile::<T, M>(a, b, &mut sums);
                            add_tile(&sums, size, &mut c[corner..], n);
                        }
                    }
                }
            }
        }
    }
}

/// Writes `get(l, i)` as panels of W neighbours i: out\[panel, l, i mod W\]. What is missing is 0.
#[inline(always)]
fn pack<T: Float, const W: usize>(
    depth: usize,
    length: usize,
    get: impl Fn(usize, usize) -> T,
    out: &mut [T],
) {
    for (first, panel) in (0..length).step_by(W).zip(out.chunks_exact_mut(depth * W)) {
        for (l, row) in panel.as_chunks_mut::<W>().0.iter_mut().enumerate() {
            for (i, x) in row.iter_mut().enumerate() {
                *x = if first + i < length { get(l, first + i) } else { T::ZERO };
            }
        }
    }
}

/// The micro-kernel: out\[i, j\] = Σₗ a\[l, i\] · b\[l, j\].
#[inline(always)]
fn tile<T: Float, M: Machine>(a: &[T], b: &[T], out: &mut [[T; NR]; MR]) {
    // An array of its own, so that the sums are never needed in memory and stay in registers.
    let mut sums = [[T::ZERO; NR]; MR];
    for (a, b) in a.as_chunks::<MR>().0.iter().zip(b.as_chunks::<NR>().0) {
        for i in 0..MR {
            for j in 0..NR {
                sums[i][j] = M::mul_add(a[i], b[j], sums[i][j]);
            }
        }
    }
    *out = sums;
}

/// Adds the part of a tile that lies inside of C, whose rows begin `stride` apart.
#[inline(always)]
fn add_tile<T: Float>(
    tile: &[[T; NR]; MR],
    (height, width): (usize, usize),
    c: &mut [T],
    stride: usize,
) {
    for (row, c) in tile.iter().zip(c.chunks_mut(stride)).take(height) {
        c.iter_mut().zip(row).take(width).for_each(|(c, &x)| *c += x);
    }
}
