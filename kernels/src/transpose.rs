//! out\[j, i\] = x\[i, j\]: rows become columns.
//!
//! Element by element, either the reads or the writes jump from line to line of the cache, and with a
//! width that is a power of two they even fight for the same places in it. So it goes by squares: eight
//! rows of eight numbers are loaded, turned in registers, and stored as eight rows of eight.
//!
//! | rung          | changes                                      |
//! |---------------|----------------------------------------------|
//! | [`reference()`] | the definition                               |
//! | [`transpose`] | squares of 8 × 8 in registers, bands of 16 rows to the threads |

use crate::parallel;

/// The side of a square that is turned in registers.
const SIDE: usize = 8;

/// The rows of the output that are written together: a line of the cache, read to its end.
pub(crate) const BAND: usize = 2 * SIDE;

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
pub fn transpose<T: Copy + Send + Sync>(
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
    assert_eq!(out.len(), height * width, "transpose: output length");
    let last = height.saturating_sub(1) * stride + width;
    assert!(out.is_empty() || last <= x.len(), "transpose: input length");
}

/// A few rows of the output: out\[j · height + i\] = x\[i · stride + j\].
#[inline(always)]
pub(crate) fn band<T: Copy>(x: &[T], stride: usize, out: &mut [T], height: usize) {
    let rows = out.len().checked_div(height).unwrap_or(0);
    for top in (0..height).step_by(SIDE) {
        let tall = SIDE.min(height - top);
        for left in (0..rows).step_by(SIDE) {
            let wide = SIDE.min(rows - left);
            let (from, to) = (top * stride + left, left * height + top);
            if tall == SIDE && wide == SIDE {
                square(&x[from..], stride, &mut out[to..], height);
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

/// One square: loads first, then stores, so that the compiler turns it in registers.
#[inline(always)]
fn square<T: Copy>(x: &[T], stride: usize, out: &mut [T], height: usize) {
    let mut lines = [[x[0]; SIDE]; SIDE];
    for (i, line) in lines.iter_mut().enumerate() {
        line.copy_from_slice(&x[i * stride..i * stride + SIDE]);
    }
    for j in 0..SIDE {
        let column: [T; SIDE] = std::array::from_fn(|i| lines[i][j]);
        out[j * height..j * height + SIDE].copy_from_slice(&column);
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
