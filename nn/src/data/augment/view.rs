//! What is seen of a picture: a window, perhaps mirrored, at some size, with holes.
//!
//! Crops, flips and changes of size are maps from the pixels that come out to the pixels of the
//! picture; they compose exactly, so a picture is resampled once whatever is done to it.

use engine::{Result, room};

use crate::data::picture::Picture;

/// Which part of a picture comes out, and how.
///
/// Coordinates are in pixels, from the upper edge and the left edge of what would come out now.
#[derive(Debug, Clone, PartialEq)]
pub struct View {
    /// Rows, then columns.
    axes: [Axis; 2],
    /// Top, left, bottom, right: from, to.
    holes: Vec<[f64; 4]>,
}

/// The edge of output pixel i is at `start + i·step` in the picture.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Axis {
    start: f64,
    step: f64,
    size: usize,
}

/// Source pixels `first ..` and their weights for one output pixel; no weights mean black.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

impl View {
    /// All of a picture of that height and width.
    #[must_use]
    pub fn whole(size: [usize; 2]) -> Self {
        Self { axes: size.map(|size| Axis { start: 0.0, step: 1.0, size }), holes: Vec::new() }
    }

    /// Height and width of what comes out now.
    #[must_use]
    pub const fn size(&self) -> [usize; 2] {
        [self.axes[0].size, self.axes[1].size]
    }

    /// Height and width of the part that is seen, in pixels of the picture.
    #[must_use]
    pub fn window(&self) -> [f64; 2] {
        self.axes.map(|axis| axis.step.abs() * axis.size as f64)
    }

    /// Only the window from (top, left), `window` high and wide, made `size` high and wide. What is
    /// outside the picture is black.
    pub fn crop(&mut self, [top, left]: [f64; 2], window: [f64; 2], size: [usize; 2]) {
        let stretch = [0, 1].map(|axis| size[axis] as f64 / window[axis]);
        for [from_row, from_column, to_row, to_column] in &mut self.holes {
            for row in [from_row, to_row] {
                *row = (*row - top) * stretch[0];
            }
            for column in [from_column, to_column] {
                *column = (*column - left) * stretch[1];
            }
        }
        for (axis, (from, side)) in [(top, 0), (left, 1)].into_iter().enumerate() {
            let to = &mut self.axes[axis];
            to.start += to.step * from;
            to.step /= stretch[side];
            to.size = size[side];
        }
    }

    /// Left becomes right.
    pub fn mirror(&mut self) {
        let width = self.axes[1].size as f64;
        self.axes[1].start += self.axes[1].step * width;
        self.axes[1].step = -self.axes[1].step;
        for hole in &mut self.holes {
            (hole[1], hole[3]) = (width - hole[3], width - hole[1]);
        }
    }

    /// The pixels whose centres are in the box come out as 0, the mean of normalised pixels.
    pub fn cut(&mut self, [top, left]: [f64; 2], [bottom, right]: [f64; 2]) {
        self.holes.push([top, left, bottom, right]);
    }

    /// Writes what is seen of the picture: `slope · byte + offset` in each channel, `[C, H, W]`.
    pub(super) fn render(
        &self,
        picture: &Picture<'_>,
        lines: &[[f32; 2]],
        out: &mut [f32],
    ) -> Result<()> {
        let [_, height, width] = picture.shape;
        let rows = self.axes[0].taps(height);
        let columns = self.axes[1].taps(width);
        let (plane, to_plane) = (height * width, rows.len() * columns.len());
        if to_plane == 0 {
            return Ok(());
        }
        let mut wide: Vec<f32> = room::zeros("augmented", height.saturating_mul(columns.len()))?;
        let needed = rows.iter().map(|taps| taps.first..taps.first + taps.weights.len());
        let needed = needed.filter(|rows| !rows.is_empty());
        let needed = needed.reduce(|a, b| a.start.min(b.start)..a.end.max(b.end)).unwrap_or(0..0);
        for ((c, out), [slope, offset]) in out.chunks_mut(to_plane).enumerate().zip(lines) {
            // LOOP 1: along the rows of the picture.
            for row in needed.clone() {
                let bytes = &picture.bytes[c * plane + row * width..][..width];
                let wide = &mut wide[row * columns.len()..][..columns.len()];
                for (out, taps) in wide.iter_mut().zip(&columns) {
                    *out = match taps.weights[..] {
                        [one] => one * f32::from(bytes[taps.first]),
                        ref many => {
                            let terms = many.iter().zip(&bytes[taps.first.min(width)..]);
                            terms.map(|(w, &b)| w * f32::from(b)).sum()
                        }
                    };
                }
            }
            // LOOP 2: down its columns, and into the units of the model.
            for (out, taps) in out.chunks_mut(columns.len()).zip(&rows) {
                out.fill(*offset);
                for (tap, weight) in taps.weights.iter().enumerate() {
                    let wide = &wide[(taps.first + tap) * columns.len()..][..columns.len()];
                    let scale = slope * weight;
                    out.iter_mut().zip(wide).for_each(|(out, x)| *out = scale.mul_add(*x, *out));
                }
            }
            self.clear(out);
        }
        Ok(())
    }

    fn clear(&self, plane: &mut [f32]) {
        let [height, width] = self.size();
        // The pixels whose centres are at or after an edge.
        let from = |edge: f64, end: usize| (edge - 0.5).ceil().clamp(0.0, end as f64) as usize;
        for &[top, left, bottom, right] in &self.holes {
            let (left, right) = (from(left, width), from(right, width));
            for row in from(top, height)..from(bottom, height) {
                plane[row * width..][left.min(right)..right].fill(0.0);
            }
        }
    }
}

impl Axis {
    /// Bilinear weights: a triangle as wide as an output pixel, but at least one pixel of the
    /// picture, over the picture's pixels. Those outside it have no share.
    fn taps(&self, source: usize) -> Vec<Taps> {
        let reach = self.step.abs().max(1.0);
        let tap = |i: usize| {
            let centre = self.start + (i as f64 + 0.5) * self.step;
            if !(0.0..source as f64).contains(&centre) {
                return Taps { first: 0, weights: Vec::new() };
            }
            let first = (centre - reach - 0.5).ceil().max(0.0) as usize;
            let last = ((centre + reach - 0.5).floor() as usize).min(source - 1);
            let weight = |j: usize| (1.0 - (j as f64 + 0.5 - centre).abs() / reach).max(0.0);
            // Weights of rounding's size would make two taps of one.
            let mut taps = (first..=last).skip_while(|&j| weight(j) < 1e-9).peekable();
            let first = taps.peek().copied().unwrap_or(first);
            let weights: Vec<f64> = taps.map(weight).take_while(|w| *w >= 1e-9).collect();
            let sum: f64 = weights.iter().sum();
            Taps { first, weights: weights.iter().map(|w| (w / sum) as f32).collect() }
        };
        (0..self.size).map(tap).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(view: &View, bytes: &[u8], [height, width]: [usize; 2]) -> Vec<f32> {
        let picture = Picture { shape: [1, height, width], bytes: bytes.into() };
        let mut out = vec![f32::NAN; view.size().iter().product()];
        view.render(&picture, &[[1.0, 0.0]], &mut out).unwrap();
        out
    }

    const SIX: [u8; 6] = [1, 2, 3, 4, 5, 6];

    #[test]
    fn all_of_a_picture_is_the_picture_and_its_mirror_is_reversed() {
        let mut view = View::whole([2, 3]);
        assert_eq!(seen(&view, &SIX, [2, 3]), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        view.mirror();
        assert_eq!(seen(&view, &SIX, [2, 3]), [3.0, 2.0, 1.0, 6.0, 5.0, 4.0]);
        view.mirror();
        assert_eq!(view, View::whole([2, 3]));
    }

    #[test]
    fn a_crop_takes_the_window_and_black_outside() {
        let mut view = View::whole([2, 3]);
        view.crop([-1.0, 1.0], [2.0, 3.0], [2, 3]);
        assert_eq!(seen(&view, &SIX, [2, 3]), [0.0, 0.0, 0.0, 2.0, 3.0, 0.0]);
        view.mirror();
        assert_eq!(seen(&view, &SIX, [2, 3]), [0.0, 0.0, 0.0, 0.0, 3.0, 2.0]);
    }

    #[test]
    fn halving_averages_and_doubling_interpolates_between_centres() {
        // A triangle of reach 2 around the middle of four pixels: weights 1/8, 3/8, 3/8, 1/8.
        let mut view = View::whole([1, 4]);
        view.crop([0.0, 1.0], [1.0, 2.0], [1, 1]);
        assert_eq!(seen(&view, &[8, 16, 32, 8], [1, 4]), [1.0 + 6.0 + 12.0 + 1.0]);
        let mut view = View::whole([1, 2]);
        view.crop([0.0, 0.0], [1.0, 2.0], [1, 4]);
        assert_eq!(seen(&view, &[0, 100], [1, 2]), [0.0, 25.0, 75.0, 100.0]);
    }

    #[test]
    fn two_crops_are_the_crop_of_the_crop_and_a_flat_picture_stays_flat() {
        let mut two = View::whole([9, 9]);
        two.crop([1.0, 2.0], [6.0, 6.0], [3, 3]);
        two.crop([1.0, 0.0], [1.0, 2.0], [4, 5]);
        let mut one = View::whole([9, 9]);
        one.crop([3.0, 2.0], [2.0, 4.0], [4, 5]);
        let flat = seen(&two, &[77; 81], [9, 9]);
        assert!(flat.iter().all(|x| (x - 77.0).abs() < 1e-4), "{flat:?}");
        let ramp: Vec<u8> = (0..81).collect();
        let (one, two) = (seen(&one, &ramp, [9, 9]), seen(&two, &ramp, [9, 9]));
        assert!(one.iter().zip(&two).all(|(a, b)| (a - b).abs() < 1e-4), "{one:?} {two:?}");
    }

    #[test]
    fn a_hole_is_zero_and_moves_with_what_comes_after_it() {
        let mut view = View::whole([2, 3]);
        view.cut([0.0, 0.0], [1.0, 2.0]);
        assert_eq!(seen(&view, &SIX, [2, 3]), [0.0, 0.0, 3.0, 4.0, 5.0, 6.0]);
        view.mirror();
        assert_eq!(seen(&view, &SIX, [2, 3]), [3.0, 0.0, 0.0, 6.0, 5.0, 4.0]);
        view.crop([0.0, 1.0], [2.0, 2.0], [2, 2]);
        assert_eq!(seen(&view, &SIX, [2, 3]), [0.0, 0.0, 5.0, 4.0]);
    }

    #[test]
    fn black_is_the_byte_0_and_a_hole_the_number_0() {
        let picture = Picture { shape: [1, 1, 2], bytes: [10, 20][..].into() };
        let mut view = View::whole([1, 2]);
        view.crop([0.0, -1.0], [1.0, 3.0], [1, 3]);
        view.cut([0.0, 2.0], [1.0, 3.0]);
        let mut out = [f32::NAN; 3];
        view.render(&picture, &[[0.5, -2.0]], &mut out).unwrap();
        assert_eq!(out, [-2.0, 3.0, 0.0]);
    }
}
