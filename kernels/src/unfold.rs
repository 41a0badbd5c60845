//! Sliding windows: every patch of an image becomes a column (im2col), and the adjoint, which adds
//! columns back to the image (col2im).
//!
//! The tap (i, j) of the window at output position (p, q) reads the image at
//! row p·stride + i·dilation − padding, and the same for columns; outside, it reads 0.
//! A tap is inside the image for one run of positions, found once by `positions`; the loops over
//! positions then have no test in them.

use std::ops::Range;

use crate::float::Float;
use crate::parallel;
use crate::sizes::{elements, product};

/// A window that slides over an image; each pair is (vertical, horizontal).
///
/// # Example
/// ```
/// use alcyon_kernels::unfold::Window;
/// let window = Window { kernel: (3, 3), stride: (2, 2), padding: (1, 1), dilation: (1, 1) };
/// assert_eq!(window.output((8, 7)), Some((4, 4)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// The number of taps.
    pub kernel: (usize, usize),
    /// The distance between neighbouring positions.
    pub stride: (usize, usize),
    /// The zeros around the image, on each side.
    pub padding: (usize, usize),
    /// The distance between neighbouring taps.
    pub dilation: (usize, usize),
}

impl Window {
    /// A window of `kernel` taps that moves by one and stays inside the image.
    #[must_use]
    pub const fn new(kernel: (usize, usize)) -> Self {
        Self { kernel, stride: (1, 1), padding: (0, 0), dilation: (1, 1) }
    }

    /// The number of positions (OH, OW) on an image (H, W):
    /// OH = ⌊(H + 2·padding − dilation·(kernel − 1) − 1) / stride⌋ + 1.
    /// None if the kernel does not fit, a kernel, stride or dilation is 0, or no number counts the places.
    #[must_use]
    pub fn output(&self, image: (usize, usize)) -> Option<(usize, usize)> {
        let along = |size: usize, kernel: usize, stride: usize, padding: usize, dilation: usize| {
            if dilation == 0 {
                return None;
            }
            let span = kernel.checked_sub(1)?.checked_mul(dilation)?.checked_add(1)?;
            let padded = size.checked_add(padding.checked_mul(2)?)?;
            isize::try_from(padded).ok()?; // So every place below can be counted, with a sign too.
            Some(padded.checked_sub(span)?.checked_div(stride)? + 1)
        };
        let (k, s, p, d) = (self.kernel, self.stride, self.padding, self.dilation);
        Some((along(image.0, k.0, s.0, p.0, d.0)?, along(image.1, k.1, s.1, p.1, d.1)?))
    }

    /// The taps of a window at all of (OH, OW) positions in so many channels, C·KH·KW·OH·OW, if a number counts them (a
    /// size of 0 is counted as 1 in that question).
    ///
    /// # Example
    /// ```
    /// use alcyon_kernels::unfold::Window;
    /// assert_eq!(Window::new((3, 2)).taps(4, (5, 5)), Some(600));
    /// assert_eq!(Window::new((1, 1 << 60)).taps(0, (8, 9)), None);
    /// ```
    #[must_use]
    pub fn taps(&self, channels: usize, (oh, ow): (usize, usize)) -> Option<usize> {
        product(&[channels, self.kernel.0, self.kernel.1, oh, ow])
    }

    /// Whether each patch is one pixel and each pixel one patch, so that unfolding changes nothing.
    #[must_use]
    pub fn is_pointwise(&self) -> bool {
        (self.kernel, self.stride, self.padding) == ((1, 1), (1, 1), (0, 0))
    }

    /// Calls `f(pixel, position, count)` for each run of consecutive positions of one output row
    /// at which tap (i, j) is inside an image (h, w) with output (oh, ow). Within a run, positions
    /// advance by 1 and pixels by the horizontal stride.
    pub(crate) fn runs(
        &self,
        (i, j): (usize, usize),
        (h, w): (usize, usize),
        (oh, ow): (usize, usize),
        mut f: impl FnMut(usize, usize, usize),
    ) {
        let (down, right) = (i * self.dilation.0, j * self.dilation.1);
        let columns = positions(ow, w, self.stride.1, right, self.padding.1);
        if columns.is_empty() {
            return;
        }
        let left = columns.start * self.stride.1 + right - self.padding.1;
        for p in positions(oh, h, self.stride.0, down, self.padding.0) {
            let row = p * self.stride.0 + down - self.padding.0;
            f(row * w + left, p * ow + columns.start, columns.len());
        }
    }

    /// [`Window::runs`] of all taps that are ever inside of the image, in row-major order: calls
    /// `f(tap, pixel, position, count)`. A window may have many more taps than those.
    pub(crate) fn each_run(
        &self,
        image: (usize, usize),
        output: (usize, usize),
        mut f: impl FnMut(usize, usize, usize, usize),
    ) {
        let ((kh, kw), s, p, d) = (self.kernel, self.stride, self.padding, self.dilation);
        for i in seen(output.0, image.0, kh, (s.0, p.0, d.0)) {
            for j in seen(output.1, image.1, kw, (s.1, p.1, d.1)) {
                self.runs((i, j), image, output, |pixel, position, count| {
                    f(i * kw + j, pixel, position, count);
                });
            }
        }
    }
}

/// The taps i of a kernel with 0 ≤ p·stride + i·dilation − padding < size for a position p in `0..count`, and some
/// between them.
fn seen(
    count: usize,
    size: usize,
    kernel: usize,
    (stride, padding, dilation): (usize, usize, usize),
) -> Range<usize> {
    let reach = count.saturating_sub(1) * stride; // Not larger than the padded image.
    let first = padding.saturating_sub(reach).div_ceil(dilation).min(kernel);
    let end = (size + padding).div_ceil(dilation).min(kernel);
    first..end.max(first)
}

/// The positions p in `0..count` with 0 ≤ p·stride + tap − padding < size.
pub(crate) fn positions(
    count: usize,
    size: usize,
    stride: usize,
    tap: usize,
    padding: usize,
) -> Range<usize> {
    let first = padding.saturating_sub(tap).div_ceil(stride).min(count);
    let end = (size + padding).saturating_sub(tap).div_ceil(stride).min(count);
    first..end.max(first)
}

/// columns\[(c, i, j), (p, q)\] = image\[c, p·stride + i·dilation − padding, …\], 0 outside.
///
/// # Shape
/// image: \[C, H, W\] · columns: \[C·KH·KW, OH·OW\]
///
/// # Example
/// ```
/// use alcyon_kernels::unfold::{Window, unfold};
/// let mut columns = [0.0; 4]; // two taps, two positions
/// unfold(&[1.0, 2.0, 3.0], 1, 1, 3, &Window::new((1, 2)), &mut columns);
/// assert_eq!(columns, [1.0, 2.0, 2.0, 3.0]);
/// ```
pub fn unfold<T: Float>(
    image: &[T],
    c: usize,
    h: usize,
    w: usize,
    window: &Window,
    columns: &mut [T],
) {
    let (oh, ow) = check("unfold", (c, h, w), window, image.len(), columns.len());
    parallel::rows(columns, oh * ow, oh * ow, |tap, row| {
        unfold_tap(image, (h, w), (oh, ow), window, tap, row);
    });
}

/// [`unfold`] on the calling thread: for images that are parallel among themselves.
pub(crate) fn unfold_alone<T: Float>(
    image: &[T],
    (h, w): (usize, usize),
    (oh, ow): (usize, usize),
    window: &Window,
    columns: &mut [T],
) {
    for (tap, row) in columns.chunks_exact_mut(oh * ow).enumerate() {
        unfold_tap(image, (h, w), (oh, ow), window, tap, row);
    }
}

/// image += the adjoint of [`unfold`]: every column entry is added to the pixel it came from.
///
/// # Shape
/// columns: \[C·KH·KW, OH·OW\] · image: \[C, H, W\]
///
/// # Example
/// ```
/// use alcyon_kernels::unfold::{Window, fold_acc};
/// let mut image = [0.0; 3];
/// fold_acc(&[1.0; 4], 1, 1, 3, &Window::new((1, 2)), &mut image);
/// assert_eq!(image, [1.0, 2.0, 1.0]); // the middle pixel is in both patches
/// ```
pub fn fold_acc<T: Float>(
    columns: &[T],
    c: usize,
    h: usize,
    w: usize,
    window: &Window,
    image: &mut [T],
) {
    let (oh, ow) = check("fold_acc", (c, h, w), window, image.len(), columns.len());
    let taps = window.kernel.0 * window.kernel.1;
    parallel::rows(image, h * w, taps * oh * ow, |channel, plane| {
        let columns = &columns[channel * taps * oh * ow..(channel + 1) * taps * oh * ow];
        for (tap, row) in columns.chunks_exact(oh * ow).enumerate() {
            let tap = (tap / window.kernel.1, tap % window.kernel.1);
            let stride = window.stride.1;
            window.runs(tap, (h, w), (oh, ow), |pixel, position, count| {
                let row = &row[position..position + count];
                if stride == 1 {
                    for (pixel, &x) in plane[pixel..pixel + count].iter_mut().zip(row) {
                        *pixel += x;
                    }
                } else {
                    for (pixel, &x) in plane[pixel..].iter_mut().step_by(stride).zip(row) {
                        *pixel += x;
                    }
                }
            });
        }
    });
}

fn unfold_tap<T: Float>(
    image: &[T],
    (h, w): (usize, usize),
    output: (usize, usize),
    window: &Window,
    tap: usize,
    row: &mut [T],
) {
    let (kh, kw) = window.kernel;
    let (channel, tap) = (tap / (kh * kw), tap % (kh * kw));
    let plane = &image[channel * h * w..(channel + 1) * h * w];
    if window.padding != (0, 0) {
        row.fill(T::ZERO);
    }
    window.runs((tap / kw, tap % kw), (h, w), output, |pixel, position, count| {
        let row = &mut row[position..position + count];
        if window.stride.1 == 1 {
            row.copy_from_slice(&plane[pixel..pixel + count]);
        } else {
            for (out, &x) in row.iter_mut().zip(plane[pixel..].iter().step_by(window.stride.1)) {
                *out = x;
            }
        }
    });
}

fn check(
    kernel: &str,
    (c, h, w): (usize, usize, usize),
    window: &Window,
    image: usize,
    columns: usize,
) -> (usize, usize) {
    let output = window.output((h, w));
    assert!(output.is_some(), "{kernel}: {window:?} does not fit on {h} × {w}");
    let (oh, ow) = output.unwrap_or_default();
    let (kh, kw) = window.kernel;
    assert_eq!(image, elements(kernel, [c, h, w]), "{kernel}: image length");
    assert_eq!(columns, elements(kernel, [c, kh, kw, oh, ow]), "{kernel}: columns length");
    (oh, ow)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{inner_product, noise, unwritten};
    use proptest::prelude::*;

    pub(crate) fn any_window() -> impl Strategy<Value = Window> {
        let pair = |from: usize, to: usize| (from..to, from..to);
        (pair(1, 4), pair(1, 4), pair(0, 4), pair(1, 4)).prop_map(
            |(kernel, stride, padding, dilation)| Window { kernel, stride, padding, dilation },
        )
    }

    proptest! {
        #[test]
        fn a_column_holds_the_pixels_under_its_window(
            window in any_window(), c in 0_usize..3, h in 1_usize..9, w in 1_usize..9,
        ) {
            let Some((oh, ow)) = window.output((h, w)) else { return Ok(()) };
            let image = noise::<f64>(c * h * w, 1);
            let (kh, kw) = window.kernel;
            let mut columns = unwritten(c * kh * kw * oh * ow);
            unfold(&image, c, h, w, &window, &mut columns);
            for (at, &x) in columns.iter().enumerate() {
                let (tap, position) = (at / (oh * ow), at % (oh * ow));
                let (channel, i, j) = (tap / (kh * kw), tap / kw % kh, tap % kw);
                let y = position / ow * window.stride.0 + i * window.dilation.0;
                let z = position % ow * window.stride.1 + j * window.dilation.1;
                let inside = y.checked_sub(window.padding.0).filter(|&y| y < h)
                    .zip(z.checked_sub(window.padding.1).filter(|&z| z < w));
                prop_assert_eq!(x, inside.map_or(0.0, |(y, z)| image[(channel * h + y) * w + z]));
            }
            // ⟨unfold(x), g⟩ = ⟨x, fold(g)⟩
            let g = noise::<f64>(columns.len(), 2);
            let mut back = vec![0.0; image.len()];
            fold_acc(&g, c, h, w, &window, &mut back);
            prop_assert!((inner_product(&columns, &g) - inner_product(&image, &back)).abs() < 1e-10);
        }
    }

    #[test]
    fn a_window_larger_than_the_padded_image_has_no_output() {
        let window = Window { dilation: (2, 1), ..Window::new((3, 3)) };
        assert_eq!(window.output((4, 9)), None);
        assert_eq!(window.output((5, 9)), Some((1, 7)));
        assert_eq!(Window { stride: (0, 1), ..window }.output((9, 9)), None);
    }
}
