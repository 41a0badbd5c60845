//! Two-dimensional convolution (cross-correlation, as everybody calls it), with its gradients.
//!
//! y\[n, o, p\] = bias\[o\] + Σ over (c, i, j) of w\[o, c, i, j\] · x\[n, c, p·stride + (i, j)·dilation − padding\]
//!
//! With the patches of an image as columns this is a matrix product for each image and group,
//! Y = W·X, and so are the gradients: dX = Wᵀ·G folded back, dW = Σₙ Gₙ·Xₙᵀ.
//!
//! | rung        | used for                                                              |
//! |-------------|-----------------------------------------------------------------------|
//! | [`mod@reference`] | nothing but tests: one loop over all (output, input, weight) triples |
//! | depthwise   | one channel per group: rows are added along, no patches               |
//! | pointwise   | 1×1, stride 1: the image already is its patches                       |
//! | unfolded    | the rest: patches of one image at a time, then the matrix product     |

pub mod reference;

use std::ops::Range;

use crate::float::Float;
use crate::gemm::{self, Matrix};
use crate::parallel;
use crate::pool::Buffer;
use crate::reduce::{dot_lanes, sum_axis, sum_lanes};
use crate::unfold::{Window, fold_acc, unfold, unfold_alone};

/// Sums with more numbers than this are not kept once for every block of images.
const LARGE_SUM: usize = 1 << 18;

/// The most blocks of images whose sums are kept apart.
const BLOCKS: usize = 16;

/// The sizes of a convolution.
///
/// x: \[batch, in_channels, H, W\] · w: \[out_channels, in_channels / groups, KH, KW\] ·
/// y: \[batch, out_channels, OH, OW\]
///
/// # Example
/// ```
/// use alcyon_kernels::{conv::Conv2d, unfold::Window};
/// let conv = Conv2d::new(1, 1, 1, 1, (1, 3), Window::new((1, 2))).unwrap();
/// assert_eq!(conv.output, (1, 2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2d {
    /// N, the number of images.
    pub batch: usize,
    /// The number of groups that do not see each other.
    pub groups: usize,
    /// The channels of x, a multiple of `groups`.
    pub in_channels: usize,
    /// The channels of y, a multiple of `groups`.
    pub out_channels: usize,
    /// (H, W)
    pub input: (usize, usize),
    /// (OH, OW) = `window.output(input)`
    pub output: (usize, usize),
    /// Kernel, stride, padding and dilation.
    pub window: Window,
}

impl Conv2d {
    /// A convolution whose output size follows from the rest; None if the window does not fit.
    #[must_use]
    pub fn new(
        batch: usize,
        groups: usize,
        in_channels: usize,
        out_channels: usize,
        input: (usize, usize),
        window: Window,
    ) -> Option<Self> {
        let output = window.output(input)?;
        Some(Self { batch, groups, in_channels, out_channels, input, output, window })
    }

    /// D = C/groups · KH · KW, the numbers in a patch of one group.
    #[must_use]
    pub fn patch(&self) -> usize {
        self.in_channels / self.groups * self.window.kernel.0 * self.window.kernel.1
    }

    /// P = OH · OW, the positions of the window.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.output.0 * self.output.1
    }

    /// The numbers in one channel of x.
    pub(crate) fn pixels(&self) -> usize {
        self.input.0 * self.input.1
    }

    /// The numbers in one group of one image.
    pub(crate) fn group_image(&self) -> usize {
        self.in_channels / self.groups * self.pixels()
    }

    /// The numbers in the output of one group of one image.
    fn group_output(&self) -> usize {
        self.out_channels / self.groups * self.positions()
    }

    fn weights(&self) -> usize {
        self.out_channels * self.patch()
    }

    fn is_depthwise(&self) -> bool {
        self.groups == self.in_channels && self.groups == self.out_channels
    }

    /// Whether there are enough images to give every thread its own.
    fn by_image(&self) -> bool {
        self.batch >= rayon::current_num_threads()
    }

    pub(crate) fn check(&self, kernel: &str, x: Option<usize>, w: Option<usize>, y: Option<usize>) {
        assert!(
            self.groups > 0
                && self.in_channels.is_multiple_of(self.groups)
                && self.out_channels.is_multiple_of(self.groups),
            "{kernel}: groups do not divide the channels"
        );
        assert_eq!(Some(self.output), self.window.output(self.input), "{kernel}: output size");
        let expected = [
            (x, self.batch * self.in_channels * self.pixels(), "x"),
            (w, self.weights(), "w"),
            (y, self.batch * self.out_channels * self.positions(), "y"),
        ];
        for (got, want, name) in expected {
            assert!(got.is_none_or(|got| got == want), "{kernel}: length of {name}");
        }
    }

    /// The patches \[D, P\] of one group of one image, unfolded into `scratch` if need be.
    pub(crate) fn columns<'a, T: Float>(
        &self,
        alone: bool,
        image: &'a [T],
        scratch: &'a mut [T],
    ) -> &'a [T] {
        if self.window.is_pointwise() {
            return image;
        }
        let (h, w) = self.input;
        if alone {
            unfold_alone(image, self.input, self.output, &self.window, scratch);
        } else {
            unfold(image, self.in_channels / self.groups, h, w, &self.window, scratch);
        }
        scratch
    }

    /// Memory for [`Conv2d::columns`]; none if they are the image itself.
    pub(crate) fn scratch<T: Float>(&self) -> Buffer<T> {
        let needed = !self.window.is_pointwise();
        Buffer::unspecified(if needed { self.patch() * self.positions() } else { 0 })
    }
}

/// y = conv(x, w) + bias.
///
/// # Shape
/// As in [`Conv2d`]; bias: \[out_channels\]
///
/// # Example
/// ```
/// use alcyon_kernels::{conv::{Conv2d, forward}, unfold::Window};
/// let conv = Conv2d::new(1, 1, 1, 1, (1, 3), Window::new((1, 2))).unwrap();
/// let mut y = [0.0; 2];
/// forward(&conv, &[1.0, 2.0, 4.0], &[10.0, 1.0], Some(&[0.5]), &mut y);
/// assert_eq!(y, [12.5, 24.5]);
/// ```
pub fn forward<T: Float>(conv: &Conv2d, x: &[T], w: &[T], bias: Option<&[T]>, y: &mut [T]) {
    conv.check("conv::forward", Some(x.len()), Some(w.len()), Some(y.len()));
    assert!(bias.is_none_or(|b| b.len() == conv.out_channels), "conv::forward: length of bias");
    let (p, d, pixels) = (conv.positions(), conv.patch(), conv.group_image());
    let fill_with_bias = |first: usize, y: &mut [T]| {
        for (o, plane) in y.chunks_exact_mut(p).enumerate() {
            plane.fill(bias.map_or(T::ZERO, |bias| bias[(first + o) % conv.out_channels]));
        }
    };
    if conv.is_depthwise() {
        return parallel::rows(y, p, d * p, |plane, y| {
            fill_with_bias(plane, y);
            let (x, c) = (&x[plane * pixels..(plane + 1) * pixels], plane % conv.groups);
            each_tap(conv, |tap, pixel, position, count| {
                let w = w[c * d + tap];
                let x = x[pixel..].iter().step_by(conv.window.stride.1);
                for (y, &x) in y[position..position + count].iter_mut().zip(x) {
                    *y += w * x;
                }
            });
        });
    }
    let outputs = conv.out_channels / conv.groups;
    per_image(conv, y, conv.groups * conv.group_output(), |n, alone, y| {
        fill_with_bias(0, y);
        let mut scratch = conv.scratch();
        for (k, y) in y.chunks_exact_mut(conv.group_output().max(1)).enumerate() {
            let at = (n * conv.groups + k) * pixels;
            let columns = conv.columns(alone, &x[at..at + pixels], &mut scratch);
            let w = Matrix::new(&w[k * outputs * d..], outputs, d);
            product(alone)(T::ONE, w, Matrix::new(columns, d, p), T::ONE, y);
        }
    });
}

/// dx, from g = dL/dy.
///
/// # Shape
/// As in [`Conv2d`], g like y and dx like x.
///
/// # Example
/// ```
/// use alcyon_kernels::{conv::{Conv2d, backward_input}, unfold::Window};
/// let conv = Conv2d::new(1, 1, 1, 1, (1, 3), Window::new((1, 2))).unwrap();
/// let mut dx = [0.0; 3];
/// backward_input(&conv, &[1.0, 2.0], &[10.0, 1.0], &mut dx);
/// assert_eq!(dx, [10.0, 21.0, 2.0]);
/// ```
pub fn backward_input<T: Float>(conv: &Conv2d, g: &[T], w: &[T], dx: &mut [T]) {
    conv.check("conv::backward_input", Some(dx.len()), Some(w.len()), Some(g.len()));
    let (p, d, pixels) = (conv.positions(), conv.patch(), conv.group_image());
    if conv.is_depthwise() {
        return parallel::rows(dx, pixels, d * p, |plane, dx| {
            dx.fill(T::ZERO);
            let (g, c) = (&g[plane * p..(plane + 1) * p], plane % conv.groups);
            each_tap(conv, |tap, pixel, position, count| {
                let w = w[c * d + tap];
                let dx = dx[pixel..].iter_mut().step_by(conv.window.stride.1);
                for (dx, &g) in dx.zip(&g[position..position + count]) {
                    *dx += w * g;
                }
            });
        });
    }
    let (outputs, size) = (conv.out_channels / conv.groups, conv.group_output());
    let channels = conv.in_channels / conv.groups;
    per_image(conv, dx, conv.groups * pixels, |n, alone, dx| {
        let mut columns = conv.scratch();
        for (k, dx) in dx.chunks_exact_mut(pixels.max(1)).enumerate() {
            let at = (n * conv.groups + k) * size;
            let g = Matrix::new(&g[at..at + size], outputs, p);
            let w = Matrix::new(&w[k * outputs * d..], outputs, d);
            if conv.window.is_pointwise() {
                product(alone)(T::ONE, w.t(), g, T::ZERO, dx);
            } else {
                product(alone)(T::ONE, w.t(), g, T::ZERO, &mut columns);
                dx.fill(T::ZERO);
                fold_acc(&columns, channels, conv.input.0, conv.input.1, &conv.window, dx);
            }
        }
    });
}

/// dw, from g = dL/dy, summed over images in a fixed order.
///
/// # Shape
/// As in [`Conv2d`], g like y and dw like w.
///
/// # Example
/// ```
/// use alcyon_kernels::{conv::{Conv2d, backward_weight}, unfold::Window};
/// let conv = Conv2d::new(1, 1, 1, 1, (1, 3), Window::new((1, 2))).unwrap();
/// let mut dw = [0.0; 2];
/// backward_weight(&conv, &[1.0, 2.0, 4.0], &[10.0, 1.0], &mut dw);
/// assert_eq!(dw, [12.0, 24.0]);
/// ```
pub fn backward_weight<T: Float>(conv: &Conv2d, x: &[T], g: &[T], dw: &mut [T]) {
    conv.check("conv::backward_weight", Some(x.len()), Some(dw.len()), Some(g.len()));
    if conv.is_depthwise() {
        return depthwise_weight(conv, x, g, dw);
    }
    let (p, d, pixels) = (conv.positions(), conv.patch(), conv.group_image());
    let (outputs, size) = (conv.out_channels / conv.groups, conv.group_output());
    let add_images = |images: Range<usize>, alone: bool, dw: &mut [T]| {
        dw.fill(T::ZERO);
        let mut scratch = conv.scratch();
        for image in images {
            for (k, dw) in dw.chunks_exact_mut((outputs * d).max(1)).enumerate() {
                let at = image * conv.groups + k;
                let x = &x[at * pixels..(at + 1) * pixels];
                let columns = Matrix::new(conv.columns(alone, x, &mut scratch), d, p);
                let g = Matrix::new(&g[at * size..(at + 1) * size], outputs, p);
                product(alone)(T::ONE, g, columns.t(), T::ONE, dw);
            }
        }
    };
    sum_over_images(conv.batch, p * d, dw, add_images);
}

/// out = Σ over blocks of images of `sum(images, alone, partial)`, which writes the sum of its
/// images. How images are grouped depends on sizes alone, so the result is the same on any machine:
/// small sums are kept once for each block and threads take blocks; for large ones there is a
/// single block, and threads work together inside of it.
pub(crate) fn sum_over_images<T: Float>(
    batch: usize,
    work: usize,
    out: &mut [T],
    sum: impl Fn(Range<usize>, bool, &mut [T]) + Sync + Send,
) {
    if batch <= 1 || out.len() > LARGE_SUM {
        return sum(0..batch, false, out);
    }
    let (height, len) = (batch.div_ceil(BLOCKS), out.len());
    let blocks = batch.div_ceil(height);
    let mut partial = Buffer::unspecified(blocks * len);
    parallel::rows(&mut partial, len, height * work, |i, partial| {
        sum(i * height..batch.min((i + 1) * height), true, partial);
    });
    sum_axis(&partial, 1, blocks, len, out);
}

/// dw\[c, tap\] = Σ over images and positions of g · x under the tap.
fn depthwise_weight<T: Float>(conv: &Conv2d, x: &[T], g: &[T], dw: &mut [T]) {
    let (p, d, pixels, stride) =
        (conv.positions(), conv.patch(), conv.pixels(), conv.window.stride.1);
    parallel::rows(dw, d, conv.batch * p * d, |c, dw| {
        dw.fill(T::ZERO);
        for plane in (0..conv.batch).map(|n| n * conv.groups + c) {
            let (x, g) = (&x[plane * pixels..(plane + 1) * pixels], &g[plane * p..(plane + 1) * p]);
            each_tap(conv, |tap, pixel, position, count| {
                let g = &g[position..position + count];
                dw[tap] += if stride == 1 {
                    dot_lanes(g, &x[pixel..pixel + count])
                } else {
                    g.iter().zip(x[pixel..].iter().step_by(stride)).map(|(&g, &x)| g * x).sum()
                };
            });
        }
    });
}

/// dbias\[o\] = Σ over images and positions of g.
///
/// # Shape
/// g: \[N, channels, positions\] · dbias: \[channels\]
///
/// # Example
/// ```
/// let mut dbias = [0.0; 2];
/// alcyon_kernels::conv::backward_bias(&[1.0, 2.0, 30.0, 40.0], 1, 2, 2, &mut dbias);
/// assert_eq!(dbias, [3.0, 70.0]);
/// ```
pub fn backward_bias<T: Float>(g: &[T], n: usize, channels: usize, s: usize, dbias: &mut [T]) {
    assert_eq!(
        (g.len(), dbias.len()),
        (n * channels * s, channels),
        "conv::backward_bias: lengths"
    );
    parallel::rows(dbias, 1, n * s, |k, sum| {
        let plane = |n: usize| (n * channels + k) * s;
        sum[0] = (0..n).map(|n| sum_lanes(&g[plane(n)..plane(n) + s])).sum();
    });
}

/// Calls `f(tap, pixel, position, count)` for all runs of all taps of one channel.
fn each_tap(conv: &Conv2d, mut f: impl FnMut(usize, usize, usize, usize)) {
    let (kh, kw) = conv.window.kernel;
    for tap in 0..kh * kw {
        conv.window.runs(
            (tap / kw, tap % kw),
            conv.input,
            conv.output,
            |pixel, position, count| {
                f(tap, pixel, position, count);
            },
        );
    }
}

/// Calls `f(n, alone, out[n])` for every image: in parallel and each on one thread if there are
/// enough images, otherwise one after the other with all threads inside.
fn per_image<T: Float>(
    conv: &Conv2d,
    out: &mut [T],
    width: usize,
    f: impl Fn(usize, bool, &mut [T]) + Sync + Send,
) {
    if conv.by_image() {
        let work = conv.out_channels * conv.patch() * conv.positions();
        parallel::rows(out, width, work, |n, out| f(n, true, out));
    } else {
        out.chunks_mut(width.max(1)).enumerate().for_each(|(n, out)| f(n, false, out));
    }
}

type Product<T> = fn(T, Matrix<'_, T>, Matrix<'_, T>, T, &mut [T]);

fn product<T: Float>(alone: bool) -> Product<T> {
    if alone { gemm::sequential } else { gemm::gemm }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::assert_same_bits_for_any_number_of_threads;
    use crate::oracle::{assert_close, noise, unwritten};
    use proptest::prelude::*;

    fn agrees_with_reference(conv: &Conv2d) {
        let x = noise::<f64>(conv.batch * conv.in_channels * conv.pixels(), 1);
        let w = noise::<f64>(conv.weights(), 2);
        let g = noise::<f64>(conv.batch * conv.out_channels * conv.positions(), 3);
        let bias = noise::<f64>(conv.out_channels, 4);
        let (mut got, mut want) = (unwritten(g.len()), unwritten(g.len()));
        for bias in [None, Some(&bias[..])] {
            forward(conv, &x, &w, bias, &mut got);
            reference::forward(conv, &x, &w, bias, &mut want);
            assert_close(&got, &want, 1e-12);
        }
        let (mut got, mut want) = (unwritten(x.len()), unwritten(x.len()));
        backward_input(conv, &g, &w, &mut got);
        reference::backward_input(conv, &g, &w, &mut want);
        assert_close(&got, &want, 1e-12);
        let (mut got, mut want) = (unwritten(w.len()), unwritten(w.len()));
        backward_weight(conv, &x, &g, &mut got);
        reference::backward_weight(conv, &x, &g, &mut want);
        assert_close(&got, &want, 1e-12);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn every_convolution_agrees_with_the_reference(
            (batch, groups, inputs, outputs) in (0_usize..4, 1_usize..4, 1_usize..3, 1_usize..3),
            input in (1_usize..8, 1_usize..8),
            kernel in (1_usize..4, 1_usize..4),
            stride in (1_usize..4, 1_usize..4),
            padding in (0_usize..3, 0_usize..3),
            dilation in (1_usize..3, 1_usize..3),
        ) {
            let window = Window { kernel, stride, padding, dilation };
            if let Some(conv) =
                Conv2d::new(batch, groups, groups * inputs, groups * outputs, input, window)
            {
                agrees_with_reference(&conv);
            }
        }
    }

    #[test]
    fn pointwise_depthwise_and_wide_batches_agree_with_the_reference() {
        let around = Window { padding: (1, 1), ..Window::new((3, 3)) };
        for (batch, groups, inputs, outputs, window) in [
            (3, 1, 6, 5, Window::new((1, 1))),
            (3, 2, 6, 4, Window { stride: (2, 2), ..Window::new((1, 1)) }),
            (2, 6, 6, 6, around),
            (2, 6, 6, 6, Window { stride: (2, 1), ..around }),
            (37, 1, 2, 3, around),
        ] {
            let conv = Conv2d::new(batch, groups, inputs, outputs, (7, 9), window).unwrap();
            agrees_with_reference(&conv);
        }
    }

    #[test]
    fn threads_do_not_change_a_convolution() {
        let around = Window { padding: (1, 1), ..Window::new((3, 3)) };
        for (batch, groups, channels) in [(20, 1, 8), (3, 1, 16), (8, 8, 8)] {
            let conv = Conv2d::new(batch, groups, channels, channels, (20, 20), around).unwrap();
            let x = noise::<f32>(batch * channels * 400, 1);
            let w = noise::<f32>(conv.weights(), 2);
            assert_same_bits_for_any_number_of_threads(|| {
                let (mut y, mut dx, mut dw) =
                    (unwritten(x.len()), unwritten(x.len()), unwritten(w.len()));
                forward(&conv, &x, &w, None, &mut y);
                backward_input(&conv, &x, &w, &mut dx);
                backward_weight(&conv, &x, &x, &mut dw);
                [y, dx, dw].concat()
            });
        }
    }

    #[test]
    fn the_bias_gradient_sums_images_and_positions() {
        let g = noise::<f64>(3 * 4 * 5, 1);
        let mut got = unwritten(4);
        backward_bias(&g, 3, 4, 5, &mut got);
        let want: Vec<f64> =
            (0..4).map(|k| (0..60).filter(|i| i / 5 % 4 == k).map(|i| g[i]).sum()).collect();
        assert_close(&got, &want, 1e-14);
    }
}
