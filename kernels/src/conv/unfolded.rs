//! Convolution as a matrix product of patches (im2col, Chellapilla, Puri & Simard 2006).
//!
//! With the patches of an image as columns, each image and group is Y = W·X; and so are the gradients:
//! dX = Wᵀ·G folded back, dW = Σₙ Gₙ·Xₙᵀ. A 1 × 1 window of stride 1 needs no patches: the image already
//! is its columns.

use std::ops::Range;

use super::Conv2d;
use crate::float::Float;
use crate::gemm::{self, Matrix};
use crate::parallel;
use crate::pool::Buffer;
use crate::reduce::sum_axis;
use crate::unfold::{fold_acc, unfold, unfold_alone};

/// Sums with more numbers than this are not kept once for every block of images.
const LARGE_SUM: usize = 1 << 18;

/// The most blocks of images whose sums are kept apart.
const BLOCKS: usize = 16;

/// [`conv::forward`](super::forward) by this rung.
pub fn forward<T: Float>(conv: &Conv2d, x: &[T], w: &[T], bias: Option<&[T]>, y: &mut [T]) {
    conv.check("conv::unfolded::forward", Some(x.len()), Some(w.len()), Some(y.len()));
    let (p, d, pixels) = (conv.positions(), conv.patch(), conv.group_image());
    let outputs = conv.out_channels / conv.groups;
    per_image(conv, y, conv.groups * conv.group_output(), |n, alone, y| {
        for (o, plane) in y.chunks_exact_mut(p).enumerate() {
            plane.fill(bias.map_or(T::ZERO, |bias| bias[o]));
        }
        let mut scratch = conv.scratch();
        for (k, y) in y.chunks_exact_mut(conv.group_output().max(1)).enumerate() {
            let at = (n * conv.groups + k) * pixels;
            let columns = conv.columns(alone, &x[at..at + pixels], &mut scratch);
            let w = Matrix::new(&w[k * outputs * d..], outputs, d);
            product(alone)(T::ONE, w, Matrix::new(columns, d, p), T::ONE, y);
        }
    });
}

/// [`conv::backward_input`](super::backward_input) by this rung.
pub fn backward_input<T: Float>(conv: &Conv2d, g: &[T], w: &[T], dx: &mut [T]) {
    conv.check("conv::unfolded::backward_input", Some(dx.len()), Some(w.len()), Some(g.len()));
    let (p, d, pixels) = (conv.positions(), conv.patch(), conv.group_image());
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

/// [`conv::backward_weight`](super::backward_weight) by this rung.
pub fn backward_weight<T: Float>(conv: &Conv2d, x: &[T], g: &[T], dw: &mut [T]) {
    conv.check("conv::unfolded::backward_weight", Some(x.len()), Some(dw.len()), Some(g.len()));
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

impl Conv2d {
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
