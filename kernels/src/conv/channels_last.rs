//! Between the two orders of an image's numbers: planes \[C, H, W\], as tensors have them, and pixels
//! \[H, W, C\], as the innermost loops want them, because the sum over channels is then a walk along
//! memory and a vector of channels is one load.

use std::ops::Range;

use super::register_tile::LANES;
use crate::float::Float;
use crate::simd::{self, Machine, Vectorised};

/// An image with zeros around it, or with rows and columns that nobody reads cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    /// The zeros above and to the left.
    pub(crate) before: (usize, usize),
    /// (H, W) with the zeros.
    pub(crate) size: (usize, usize),
}

impl Frame {
    pub(crate) fn pixels(&self) -> usize {
        self.size.0 * self.size.1
    }

    /// Writes `channels` planes of an image as pixels of `width` ≥ `channels` numbers; the channels
    /// that are missing are 0, as the frame is.
    ///
    /// # Shape
    /// planes: \[channels, h, w\] · out: \[pixels, width\]
    pub(crate) fn fill<T: Float>(
        &self,
        planes: &[T],
        channels: usize,
        (h, w): (usize, usize),
        out: &mut [T],
        width: usize,
    ) {
        assert_eq!(planes.len(), channels * h * w, "Frame::fill: length of the planes");
        assert_eq!(out.len(), self.pixels() * width, "Frame::fill: length of out");
        let (top, left) = self.before;
        let rows = h.min(self.size.0.saturating_sub(top));
        let columns = w.min(self.size.1.saturating_sub(left));
        let line = self.size.1 * width;
        if rows == 0 || columns == 0 || channels < width {
            out.fill(T::ZERO);
        } else {
            out[..top * line].fill(T::ZERO);
            for row in out[top * line..(top + rows) * line].chunks_exact_mut(line) {
                row[..left * width].fill(T::ZERO);
                row[(left + columns) * width..].fill(T::ZERO);
            }
            out[(top + rows) * line..].fill(T::ZERO);
        }
        if rows == 0 || columns == 0 || channels == 0 {
            return;
        }
        let out = &mut out[top * line + left * width..];
        // Rows without anything between them are one long row.
        let long = columns == w && w == self.size.1;
        let (rows, columns) = if long { (1, rows * w) } else { (rows, columns) };
        simd::run(Fill { planes, channels, rows, columns, pixels: h * w, w, out, width, line });
    }
}

/// out\[row · line + column · width + channel\] = planes\[channel · pixels + row · w + column\], some
/// channels at a time, so that each plane is read from its beginning to its end.
struct Fill<'a, T> {
    planes: &'a [T],
    channels: usize,
    rows: usize,
    columns: usize,
    pixels: usize,
    w: usize,
    out: &'a mut [T],
    width: usize,
    line: usize,
}

impl<T: Float> Vectorised for Fill<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: Machine>(self) {
        for channel in (0..self.channels).step_by(BLOCK) {
            for row in 0..self.rows {
                let m = Matrix {
                    data: &self.planes[channel * self.pixels + row * self.w..],
                    rows: BLOCK.min(self.channels - channel),
                    columns: self.columns,
                    stride: self.pixels,
                };
                let out = &mut self.out[row * self.line + channel..];
                Transpose { m, out, stride: self.width }.run::<M>();
            }
        }
    }
}

/// Writes one panel's worth of pixels as planes, with a bias for each.
///
/// # Shape
/// pixels: \[P, LANES\] · planes: \[1 ..= LANES, P\] · bias: one for each plane
pub(crate) fn to_planes<T: Float>(pixels: &[T], bias: Option<&[T]>, planes: &mut [T]) {
    let (rows, count) = (pixels.len() / LANES, planes.len() * LANES / pixels.len().max(1));
    assert_eq!(planes.len(), rows * count, "to_planes: lengths");
    let m = Matrix { data: pixels, rows, columns: count, stride: LANES };
    simd::run(Transpose { m, out: planes, stride: rows });
    if let Some(bias) = bias {
        for (plane, &bias) in planes.chunks_exact_mut(rows.max(1)).zip(bias) {
            plane.iter_mut().for_each(|y| *y += bias);
        }
    }
}

/// A matrix whose rows begin `stride` apart.
#[derive(Clone, Copy)]
struct Matrix<'a, T> {
    data: &'a [T],
    rows: usize,
    columns: usize,
    stride: usize,
}

/// The side of the blocks that are transposed in registers.
const BLOCK: usize = 8;

/// out\[j · stride + i\] = m\[i, j\]
struct Transpose<'a, T> {
    m: Matrix<'a, T>,
    out: &'a mut [T],
    stride: usize,
}

impl<T: Float> Vectorised for Transpose<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: Machine>(mut self) {
        let Matrix { rows, columns, .. } = self.m;
        for left in (0..columns).step_by(BLOCK) {
            for top in (0..rows).step_by(BLOCK) {
                match (rows - top, columns - left) {
                    (BLOCK.., BLOCK..) => self.block::<M, BLOCK>(top, left),
                    (BLOCK.., 4) => self.block::<M, 4>(top, left),
                    (height, width) => self.rest(top..top + height, left..left + width),
                }
            }
        }
    }
}

impl<T: Float> Transpose<'_, T> {
    /// A block of 8 rows and `W` columns.
    #[inline(always)]
    fn block<M: Machine, const W: usize>(&mut self, top: usize, left: usize) {
        let Matrix { data, stride, .. } = self.m;
        let mut block = [[T::ZERO; BLOCK]; BLOCK];
        for (i, row) in block.iter_mut().enumerate() {
            row[..W].copy_from_slice(&data[(top + i) * stride + left..][..W]);
        }
        for (j, column) in M::transpose(&block).iter().enumerate().take(W) {
            self.out[(left + j) * self.stride + top..][..BLOCK].copy_from_slice(column);
        }
    }

    /// What is left at the edges, one number at a time.
    #[inline(always)]
    fn rest(&mut self, rows: Range<usize>, columns: Range<usize>) {
        let (rows, columns) = (
            rows.start..rows.end.min(rows.start + BLOCK),
            columns.start..columns.end.min(columns.start + BLOCK),
        );
        for j in columns {
            for i in rows.clone() {
                self.out[j * self.stride + i] = self.m.data[i * self.m.stride + j];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{noise, unwritten};

    #[test]
    fn a_frame_holds_the_image_and_zeros_around_it() {
        let (c, h, w) = (11, 10, 19);
        let x = noise::<f32>(c * h * w, 1);
        for (before, size) in [((0, 0), (h, w)), ((2, 1), (13, 21)), ((1, 0), (5, 9))] {
            for width in [c, 16] {
                let frame = Frame { before, size };
                let mut out = unwritten(frame.pixels() * width);
                frame.fill(&x, c, (h, w), &mut out, width);
                for (at, &got) in out.iter().enumerate() {
                    let (row, column, channel) =
                        (at / width / size.1, at / width % size.1, at % width);
                    let row = row.checked_sub(before.0).filter(|&row| row < h);
                    let column = column.checked_sub(before.1).filter(|&column| column < w);
                    let want = match (row, column) {
                        (Some(row), Some(column)) if channel < c => {
                            x[(channel * h + row) * w + column]
                        }
                        _ => 0.0,
                    };
                    assert_eq!(got, want);
                }
            }
        }
    }

    #[test]
    fn planes_are_the_columns_of_a_panel_with_their_bias() {
        let pixels = noise::<f64>(21 * LANES, 1);
        let bias = noise::<f64>(LANES, 2);
        for count in [1, 7, 16] {
            let mut planes = unwritten(count * 21);
            to_planes(&pixels, Some(&bias[..count]), &mut planes);
            let want = (0..count * 21).map(|i| pixels[i % 21 * LANES + i / 21] + bias[i / 21]);
            assert!(planes.iter().copied().eq(want));
        }
    }
}
