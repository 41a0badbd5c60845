//! out\[j, i\] = x\[i, j\]: rows become columns.
//!
//! Element by element, either the reads or the writes jump from line to line of the cache, and with a
//! width that is a power of two they even fight for the same places in it. So it goes by squares: sixteen
//! lines of sixteen numbers are read, turned in registers as four squares of eight, and written as
//! sixteen lines: each line of the cache is touched once.
//!
//! | rung          | changes                                      |
//! |---------------|----------------------------------------------|
//! | [`reference()`] | the definition                               |
//! | [`transpose`] | squares of whole lines, turned in registers; bands of 16 rows to the threads |

use std::array::from_fn;

use bytemuck::NoUninit;

use crate::parallel;
use crate::simd::{self, Machine, Vectorised};
use crate::sizes::{elements, extent};

/// The side of a square that is turned in registers.
const SIDE: usize = 8;

/// The numbers that are read, and written, together: those of a cache line, if they are f32.
const LINE: usize = 2 * SIDE;

/// The rows of the output that are written together.
pub(crate) const BAND: usize = LINE;

/// out\[j, i\] = x\[i · stride + j\]
///
/// # Shape
/// x: \[height, width\], its rows `stride` apart · out: \[width, height\], contiguous
///
/// # Example
/// ```
/// let mut out = [0; 6];
/// alcyon_kernels::transpose::transpose(&[1, 2, 3, 4, 5, 6], (2, 3), 3, &mut out);
/// assert_eq!(out, [1, 4, 2, 5, 3, 6]);
/// ```
pub fn transpose<T: NoUninit + Send + Sync>(
    x: &[T],
    (height, width): (usize, usize),
    stride: usize,
    out: &mut [T],
) {
    check(x, (height, width), stride, out);
    parallel::rows(
        out,
        BAND * height,
        BAND * height,
        #[inline(always)]
        |b, out| {
            band(&x[b * BAND..], stride, out, height);
        },
    );
}

/// [`transpose`] by the definition.
pub fn reference<T: Copy>(x: &[T], (height, width): (usize, usize), stride: usize, out: &mut [T]) {
    check(x, (height, width), stride, out);
    for (at, out) in out.iter_mut().enumerate() {
        *out = x[at % height * stride + at / height];
    }
}

fn check<T>(x: &[T], (height, width): (usize, usize), stride: usize, out: &[T]) {
    assert_eq!(out.len(), elements("transpose", [height, width]), "transpose: output length");
    let end = extent(&[height, width], &[stride, 1]);
    assert!(end.is_some_and(|end| end <= x.len()), "transpose: input length");
}

/// A few rows of the output: out\[j · height + i\] = x\[i · stride + j\].
#[inline]
pub(crate) fn band<T: NoUninit>(x: &[T], stride: usize, out: &mut [T], height: usize) {
    simd::run(Band { x, stride, out, height });
}

struct Band<'a, T> {
    x: &'a [T],
    stride: usize,
    out: &'a mut [T],
    height: usize,
}

impl<T: NoUninit> Vectorised for Band<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: Machine>(self) {
        let Self { x, stride, out, height } = self;
        let rows = out.len().checked_div(height).unwrap_or(0);
        for top in (0..height).step_by(LINE) {
            let tall = LINE.min(height - top);
            for left in (0..rows).step_by(LINE) {
                let wide = LINE.min(rows - left);
                let (from, to) = (top * stride + left, left * height + top);
                if tall == LINE && wide == LINE {
                    square::<M, T>(&x[from..], stride, &mut out[to..], height);
                    continue;
                }
                for j in 0..wide {
                    for i in 0..tall {
                        out[to + j * height + i] = x[from + i * stride + j];
                    }
                }
            }
        }
    }
}

/// One square: whole lines are read, turned in registers, and whole lines are written.
#[inline(always)]
fn square<M: Machine, T: NoUninit>(x: &[T], stride: usize, out: &mut [T], height: usize) {
    let mut lines = [[x[0]; LINE]; LINE];
    for (i, line) in lines.iter_mut().enumerate() {
        line.copy_from_slice(&x[i * stride..i * stride + LINE]);
    }
    for left in [0, SIDE] {
        let block = |top: usize| -> [[T; SIDE]; SIDE] {
            M::transpose(&from_fn(|i| from_fn(|j| lines[top + i][left + j])))
        };
        let (upper, lower) = (block(0), block(SIDE));
        for (j, (first, last)) in upper.iter().zip(&lower).enumerate() {
            let out = &mut out[(left + j) * height..(left + j) * height + LINE];
            out[..SIDE].copy_from_slice(first);
            out[SIDE..].copy_from_slice(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{noise, unwritten};

    #[test]
    fn every_element_changes_places_at_every_size_and_stride() {
        let small = (0..20).flat_map(|height| (0..20).map(move |width| (height, width)));
        for (height, width) in small.chain([(300, 257), (16, 5000)]) {
            for gap in [0, 3] {
                let stride = width + gap;
                let x = noise::<f32>(height * stride, 1);
                let (mut got, mut want) = (unwritten(height * width), unwritten(height * width));
                transpose(&x, (height, width), stride, &mut got);
                reference(&x, (height, width), stride, &mut want);
                assert_eq!(got, want, "{height} x {width}, stride {stride}");
            }
        }
    }

    #[test]
    #[should_panic(expected = "transpose: input length")]
    fn an_input_that_is_too_short_is_refused() {
        transpose(&[1.0; 5], (2, 3), 3, &mut [0.0; 6]);
    }
}
