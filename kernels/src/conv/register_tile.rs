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

/// out\[r, lane\] = Σ over runs o and i < length of a\[rows\[r\] + runs\[o\] + i\] · b\[o·length + i, lane\]
///
/// # Shape
/// b: \[runs · length, LANES\] · out: \[rows, LANES\]
pub(crate) fn along<T: Float>(
    a: &[T],
    rows: &[usize],
    runs: &[usize],
    length: usize,
    b: &[T],
    out: &mut [T],
) {
    assert_eq!(b.len(), runs.len() * length * LANES, "register_tile::along: length of the panel");
    assert_eq!(out.len(), rows.len() * LANES, "register_tile::along: length of out");
    simd::run(Along { a, rows, runs, length, b, out });
}

/// out\[r, lane\] += Σ over runs o and i < count of a\[runs\[o\] + i·stride + r\] · b\[o·count + i, lane\]
///
/// # Shape
/// b: \[runs · count, LANES\] · out: \[rows, LANES\]
pub(crate) fn add_across<T: Float>(
    a: &[T],
    runs: &[usize],
    (count, stride): (usize, usize),
    b: &[T],
    out: &mut [T],
) {
    assert_eq!(
        b.len(),
        runs.len() * count * LANES,
        "register_tile::add_across: length of the panel"
    );
    assert!(out.len().is_multiple_of(LANES), "register_tile::add_across: length of out");
    simd::run(Across { a, runs, count, stride, b, out });
}

type Lanes<T> = [T; LANES];

/// The rows of a tile: as many as leave the machine registers for the rest.
const fn height<T>() -> usize {
    if size_of::<T>() > 4 { 3 } else { 6 }
}

struct Along<'a, T> {
    a: &'a [T],
    rows: &'a [usize],
    runs: &'a [usize],
    length: usize,
    b: &'a [T],
    out: &'a mut [T],
}

impl<T: Float> Vectorised for Along<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: Machine>(mut self) {
        let out = std::mem::take(&mut self.out);
        let tiles = out.as_chunks_mut::<LANES>().0.chunks_mut(height::<T>());
        for (rows, out) in self.rows.chunks(height::<T>()).zip(tiles) {
            match rows.len() {
                1 => self.tile::<M, 1>(rows, out),
                2 => self.tile::<M, 2>(rows, out),
                3 => self.tile::<M, 3>(rows, out),
                4 => self.tile::<M, 4>(rows, out),
                5 => self.tile::<M, 5>(rows, out),
                _ => self.tile::<M, 6>(rows, out),
            }
        }
    }
}

impl<T: Float> Along<'_, T> {
    #[inline(always)]
    fn tile<M: Machine, const R: usize>(&self, rows: &[usize], out: &mut [Lanes<T>]) {
        let Self { a, runs, length, b, .. } = *self;
        let mut sums = [[T::ZERO; LANES]; R];
        let panel = b.as_chunks::<LANES>().0;
        for (&run, panel) in runs.iter().zip(panel.chunks_exact(length.max(1))) {
            let a: [&[T]; R] = std::array::from_fn(|r| &a[rows[r] + run..][..length]);
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
    runs: &'a [usize],
    count: usize,
    stride: usize,
    b: &'a [T],
    out: &'a mut [T],
}

impl<T: Float> Vectorised for Across<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: Machine>(mut self) {
        let out = std::mem::take(&mut self.out);
        let tiles = out.as_chunks_mut::<LANES>().0.chunks_mut(height::<T>());
        for (tile, out) in tiles.enumerate() {
            let first = tile * height::<T>();
            match out.len() {
                1 => self.tile::<M, 1>(first, out),
                2 => self.tile::<M, 2>(first, out),
                3 => self.tile::<M, 3>(first, out),
                4 => self.tile::<M, 4>(first, out),
                5 => self.tile::<M, 5>(first, out),
                _ => self.tile::<M, 6>(first, out),
            }
        }
    }
}

impl<T: Float> Across<'_, T> {
    #[inline(always)]
    fn tile<M: Machine, const R: usize>(&self, first: usize, out: &mut [Lanes<T>]) {
        let Self { a, runs, count, stride, b, .. } = *self;
        let mut sums = [[T::ZERO; LANES]; R];
        let panel = b.as_chunks::<LANES>().0;
        for (&run, panel) in runs.iter().zip(panel.chunks_exact(count.max(1))) {
            let a = &a[run + first..];
            for (i, b) in panel.iter().enumerate() {
                let a = &a[i * stride..][..R];
                for r in 0..R {
                    for lane in 0..LANES {
                        sums[r][lane] = M::mul_add(a[r], b[lane], sums[r][lane]);
                    }
                }
            }
        }
        for (out, sums) in out.iter_mut().zip(&sums) {
            for (out, &sum) in out.iter_mut().zip(sums) {
                *out += sum;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, noise, unwritten};

    fn agree<T: Float>(tolerance: f64) {
        let a = noise::<T>(400, 1);
        let (runs, length, stride) = ([3, 50, 20], 5, 9);
        let b = noise::<T>(runs.len() * length * LANES, 2);
        for count in 0..14 {
            let rows: Vec<usize> = (0..count).map(|r| r * 17 % 101).collect();
            let sum = |at: &dyn Fn(usize, usize, usize) -> usize, r: usize, lane: usize| -> T {
                let terms = (0..runs.len() * length)
                    .map(|s| a[at(r, runs[s / length], s % length)] * b[s * LANES + lane]);
                terms.sum()
            };
            let each = |at: &dyn Fn(usize, usize, usize) -> usize| -> Vec<T> {
                (0..count * LANES).map(|i| sum(at, i / LANES, i % LANES)).collect()
            };
            let mut got = unwritten(count * LANES);
            along(&a, &rows, &runs, length, &b, &mut got);
            assert_close(&got, &each(&|r, run, i| rows[r] + run + i), tolerance);
            got.fill(T::ONE);
            add_across(&a, &runs, (length, stride), &b, &mut got);
            got.iter_mut().for_each(|x| *x -= T::ONE);
            assert_close(&got, &each(&|r, run, i| run + i * stride + r), tolerance);
        }
    }

    #[test]
    fn tiles_of_every_height_are_the_sums_that_they_say() {
        agree::<f64>(1e-13);
        agree::<f32>(1e-5);
    }
}
