//! The innermost loops of the fast convolutions: a tile of up to 6 × 16 results is kept in registers
//! while a whole sum runs over it, so that every number loaded takes part in many products.
//!
//! Both multiply a matrix A, whose rows lie somewhere in an image, by a *panel* B of 16 columns stored
//! one after the other. With AVX2 a tile of f32 is twelve registers of eight; each step loads two
//! more, and spreads one number of each row over a third. Twelve independent sums also hide the
//! latency of the multiply–add, which takes eight.

use crate::float::Float;
use crate::simd::{self, Machine, Vectorised};

/// The columns of a panel: two AVX2 registers of f32.
pub(crate) const LANES: usize = 16;

/// Where a row's numbers lie: `count` runs of `length` numbers, one every `apart`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Runs {
    pub(crate) count: usize,
    pub(crate) apart: usize,
    pub(crate) length: usize,
}

/// out\[r, lane\] = Σ over runs o and i < length of
/// a\[r · stride + o · apart + i\] · b\[o · length + i, lane\]
///
/// # Shape
/// b: \[count · length, LANES\] · out: \[rows, LANES\]
pub(crate) fn along<T: Float>(a: &[T], stride: usize, runs: Runs, b: &[T], out: &mut [T]) {
    assert_eq!(b.len(), runs.count * runs.length * LANES, "register_tile::along: length of b");
    assert!(out.len().is_multiple_of(LANES), "register_tile::along: length of out");
    simd::run(Tiles { sums: Along { a, stride, runs, b }, out });
}

/// out\[r, lane\] = Σ over i of a\[i · stride + r\] · b\[i, lane\], added to what is there if `add`.
///
/// # Shape
/// b: \[any, LANES\] · out: \[rows, LANES\]
pub(crate) fn across<T: Float>(a: &[T], stride: usize, b: &[T], add: bool, out: &mut [T]) {
    assert!(b.len().is_multiple_of(LANES), "register_tile::across: length of b");
    assert!(out.len().is_multiple_of(LANES), "register_tile::across: length of out");
    simd::run(Tiles { sums: Across { a, stride, b, add }, out });
}

type Lanes<T> = [T; LANES];

/// The rows of a tile: as many as leave the machine registers for the rest.
const fn height<T>() -> usize {
    if size_of::<T>() > 4 { 3 } else { 6 }
}

/// What a tile holds, and where its numbers come from.
trait Sums<T> {
    /// Writes the R rows of results from row `first` on.
    fn tile<M: Machine, const R: usize>(&self, first: usize, out: &mut [Lanes<T>]);
}

/// All rows of results, tile by tile.
struct Tiles<'a, S, T> {
    sums: S,
    out: &'a mut [T],
}

impl<S: Sums<T>, T: Float> Vectorised for Tiles<'_, S, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: Machine>(self) {
        let Self { sums, out } = self;
        let tiles = out.as_chunks_mut::<LANES>().0.chunks_mut(height::<T>());
        for (tile, out) in tiles.enumerate() {
            let first = tile * height::<T>();
            match out.len() {
                1 => sums.tile::<M, 1>(first, out),
                2 => sums.tile::<M, 2>(first, out),
                3 => sums.tile::<M, 3>(first, out),
                4 => sums.tile::<M, 4>(first, out),
                5 => sums.tile::<M, 5>(first, out),
                _ => sums.tile::<M, 6>(first, out),
            }
        }
    }
}

struct Along<'a, T> {
    a: &'a [T],
    stride: usize,
    runs: Runs,
    b: &'a [T],
}

impl<T: Float> Sums<T> for Along<'_, T> {
    #[inline(always)]
    fn tile<M: Machine, const R: usize>(&self, first: usize, out: &mut [Lanes<T>]) {
        let Self { a, stride, runs: Runs { count, apart, length }, b } = *self;
        let mut sums = [[T::ZERO; LANES]; R];
        let panel = b.as_chunks::<LANES>().0;
        for (run, panel) in panel.chunks_exact(length.max(1)).enumerate().take(count) {
            let a: [&[T]; R] =
                std::array::from_fn(|r| &a[(first + r) * stride + run * apart..][..length]);
            for (i, b) in panel.iter().enumerate().take(length) {
                for r in 0..R {
                    let x = a[r][i];
                    for lane in 0..LANES {
                        sums[r][lane] = M::mul_add(x, b[lane], sums[r][lane]);
                    }
                }
            }
        }
        out.copy_from_slice(&sums);
    }
}

struct Across<'a, T> {
    a: &'a [T],
    stride: usize,
    b: &'a [T],
    add: bool,
}

impl<T: Float> Sums<T> for Across<'_, T> {
    #[inline(always)]
    fn tile<M: Machine, const R: usize>(&self, first: usize, out: &mut [Lanes<T>]) {
        let Self { a, stride, b, add } = *self;
        let mut sums = [[T::ZERO; LANES]; R];
        for (i, b) in b.as_chunks::<LANES>().0.iter().enumerate() {
            let a = &a[i * stride + first..][..R];
            for r in 0..R {
                for lane in 0..LANES {
                    sums[r][lane] = M::mul_add(a[r], b[lane], sums[r][lane]);
                }
            }
        }
        // A copy, so that the sums above are never needed in memory and stay in registers.
        let mut total = sums;
        if add {
            for (total, out) in total.iter_mut().zip(&*out) {
                for (total, &out) in total.iter_mut().zip(out) {
                    *total += out;
                }
            }
        }
        out.copy_from_slice(&total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, noise, unwritten};

    fn agree<T: Float>(tolerance: f64) {
        let a = noise::<T>(400, 1);
        let (runs, stride) = (Runs { count: 3, apart: 50, length: 5 }, 17);
        let steps = runs.count * runs.length;
        let b = noise::<T>(steps * LANES, 2);
        for rows in 0..14 {
            let each = |at: &dyn Fn(usize, usize) -> usize| -> Vec<T> {
                let one = |i: usize| -> T {
                    (0..steps).map(|s| a[at(i / LANES, s)] * b[s * LANES + i % LANES]).sum()
                };
                (0..rows * LANES).map(one).collect()
            };
            let mut got = unwritten(rows * LANES);
            along(&a, stride, runs, &b, &mut got);
            let place =
                |r: usize, s: usize| r * stride + s / runs.length * runs.apart + s % runs.length;
            assert_close(&got, &each(&place), tolerance);
            let want = each(&|r, s| s * stride + r);
            got.fill(T::of(f64::NAN));
            across(&a, stride, &b, false, &mut got);
            assert_close(&got, &want, tolerance);
            across(&a, stride, &b, true, &mut got);
            let twice: Vec<T> = want.iter().map(|&x| x + x).collect();
            assert_close(&got, &twice, tolerance);
        }
    }

    #[test]
    fn tiles_of_every_height_are_the_sums_that_they_say() {
        agree::<f64>(1e-13);
        agree::<f32>(1e-5);
    }
}
