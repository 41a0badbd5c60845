//! Two-dimensional convolution and its two gradients.
//!
//! With C, O channels, N images, P positions of the window, D = C/groups · KH · KW numbers in a patch, all
//! three maps take 2·N·O·P·D operations, and have x, W and y to move.
//!
//! | rung | used for | moves beside x, W and y |
//! |---|---|---|
//! | [`cudnn`] | what the lines below do not say, where the library can be loaded and takes the shape | what the library moves: it turns NCHW around for its tensor cores |
//! | [`unfolded`] | pointwise windows whose rows are whole vectors, but for dW: products of x or g as they lie | nothing |
//! | | pointwise dW without cuDNN | x and g once more, read and written, in another order |
//! | | all else without cuDNN | 2·N·P·D·groups numbers: patches, written and read; for dW, g once more |
//! | [`direct`] | depthwise, where a patch of one channel is all there is to add; without cuDNN, also groups of few outputs; sizes of 0 | nothing, but what is read again comes from caches |
//!
//! A pointwise window is cuBLAS's although cuDNN could take it, for there is nothing to lay out and nothing to turn
//! around: but only where each of its rows, P numbers, is a multiple of 16 bytes, without which products are
//! slow on tensor cores (NVIDIA, *Matrix Multiplication Background User's Guide*). In groups of few outputs a
//! product is a few rows high, and patches cost more than they save. Where these limits are best has not been
//! measured.
//!
//! On all rungs sums are f32 for numbers of 16 bits, biases are added before the one rounding, sums
//! have the same order in every run, and operands of f32 are rounded to TF32 only if
//! [`Gpu::allow_tf32`] has been called; [`direct`] never does.

pub mod cudnn;
mod descriptors;
pub mod direct;
pub mod unfolded;

use super::device::Gpu;
use super::error::{CudaError, Result};
use super::launch::Image;
use super::operand::{length, scalar};
use super::slice::{Scalar, Slice, SliceMut};
use super::strided;
use crate::conv::Conv2d;
use crate::sizes::product;

/// What patches may take of the device's memory at a time, in bytes; more images are done in turns. Small, for
/// what has just been written is in the second-level cache of a large GPU then, not in its memory.
pub const WORKSPACE: usize = 32 << 20;

/// Bytes of the vectors that products load.
const VECTOR: usize = 16;

/// Groups of fewer outputs are no product of matrices.
const NARROW: usize = 8;

/// One of the three maps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Map {
    Output,
    InputGradient,
    WeightGradient,
}

/// A way to compute them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rung {
    Cudnn,
    Direct,
    Unfolded,
}

/// The rungs to try, the best first; the last takes everything. A function of the sizes and the type.
fn rungs(conv: &Conv2d, map: Map, scalar: Scalar) -> &'static [Rung] {
    let in_vectors = (conv.positions() * scalar.bytes()).is_multiple_of(VECTOR);
    let is_empty = conv.batch == 0 || conv.out_channels == 0 || conv.patch() == 0;
    if is_empty || conv.groups > 1 && conv.in_channels == conv.groups {
        &[Rung::Direct]
    } else if conv.window.is_pointwise() && in_vectors && map != Map::WeightGradient {
        &[Rung::Unfolded]
    } else if conv.groups > 1 && conv.out_channels / conv.groups < NARROW {
        &[Rung::Cudnn, Rung::Direct]
    } else {
        &[Rung::Cudnn, Rung::Unfolded]
    }
}

/// Tries one after another, until one says that it has done it.
fn climb(rungs: &[Rung], by: impl Fn(Rung) -> Result<bool>) -> Result<()> {
    for &rung in rungs {
        if by(rung)? {
            break;
        }
    }
    Ok(())
}

/// y = x ⋆ W + b.
///
/// # Shape
/// x: \[N, C, H, W\] · weight: \[O, C/groups, KH, KW\] · bias: \[O\] · y: \[N, O, OH, OW\]
///
/// # Errors
/// [`CudaError`] of sizes, lengths and types that do not go together; what the driver, the compiler or a library
/// refuses; no memory (all functions here).
pub fn forward(
    gpu: &Gpu,
    conv: &Conv2d,
    x: Slice<'_>,
    weight: Slice<'_>,
    bias: Option<Slice<'_>>,
    y: &SliceMut<'_>,
) -> Result<()> {
    check(conv, (x, weight, y.read()), (bias, conv.out_channels))?;
    if y.is_empty() {
        return Ok(());
    }
    climb(rungs(conv, Map::Output, y.scalar()), |rung| match rung {
        Rung::Cudnn => cudnn::forward(gpu, conv, x, weight, bias, y),
        Rung::Direct => direct::forward(gpu, conv, x, weight, bias, y).map(|()| true),
        Rung::Unfolded => {
            unfolded::forward(gpu, conv, WORKSPACE, x, weight, bias, y).map(|()| true)
        }
    })
}

/// dx from g and W, plus a bias for each channel of x if there is one: with it, the transposed convolution.
///
/// # Shape
/// g: \[N, O, OH, OW\] · weight: \[O, C/groups, KH, KW\] · bias: \[C\] · dx: \[N, C, H, W\]
///
/// # Errors
/// As [`forward`].
pub fn backward_input(
    gpu: &Gpu,
    conv: &Conv2d,
    g: Slice<'_>,
    weight: Slice<'_>,
    bias: Option<Slice<'_>>,
    dx: &SliceMut<'_>,
) -> Result<()> {
    check(conv, (dx.read(), weight, g), (bias, conv.in_channels))?;
    if dx.is_empty() {
        return Ok(());
    }
    climb(rungs(conv, Map::InputGradient, dx.scalar()), |rung| match rung {
        Rung::Cudnn => cudnn::backward_input(gpu, conv, g, weight, bias, dx),
        Rung::Direct => direct::backward_input(gpu, conv, g, weight, bias, dx).map(|()| true),
        Rung::Unfolded => {
            unfolded::backward_input(gpu, conv, WORKSPACE, g, weight, bias, dx).map(|()| true)
        }
    })
}

/// dW from x and g.
///
/// # Shape
/// x: \[N, C, H, W\] · g: \[N, O, OH, OW\] · dw: \[O, C/groups, KH, KW\]
///
/// # Errors
/// As [`forward`].
pub fn backward_weight(
    gpu: &Gpu,
    conv: &Conv2d,
    x: Slice<'_>,
    g: Slice<'_>,
    dw: &SliceMut<'_>,
) -> Result<()> {
    check(conv, (x, dw.read(), g), (None, 0))?;
    if dw.is_empty() {
        return Ok(());
    }
    climb(rungs(conv, Map::WeightGradient, dw.scalar()), |rung| match rung {
        Rung::Cudnn => cudnn::backward_weight(gpu, conv, x, g, dw),
        Rung::Direct => direct::backward_weight(gpu, conv, x, g, dw).map(|()| true),
        Rung::Unfolded => unfolded::backward_weight(gpu, conv, WORKSPACE, x, g, dw).map(|()| true),
    })
}

/// Asks for lengths and one type; the bias has so many numbers.
fn check(
    conv: &Conv2d,
    (x, weight, y): (Slice<'_>, Slice<'_>, Slice<'_>),
    (bias, channels): (Option<Slice<'_>>, usize),
) -> Result<()> {
    sizes("conv", conv, Some(x.len()), Some(weight.len()), Some(y.len()))?;
    scalar("conv", "x", x.scalar(), y.scalar())?;
    scalar("conv", "w", weight.scalar(), y.scalar())?;
    let Some(bias) = bias else { return Ok(()) };
    length("conv", "bias", bias.len(), &[channels])?;
    scalar("conv", "bias", bias.scalar(), y.scalar())
}

/// The same for a rung on which no size may be 0.
fn check_whole(
    conv: &Conv2d,
    arrays: (Slice<'_>, Slice<'_>, Slice<'_>),
    bias: (Option<Slice<'_>>, usize),
) -> Result<()> {
    check(conv, arrays, bias)?;
    if arrays.0.is_empty() || arrays.1.is_empty() || arrays.2.is_empty() {
        return Err(refused(conv, "no size of 0 on this rung"));
    }
    Ok(())
}

/// Asks that sizes go together, that arrays are as long, and that no product of sizes wraps, patches' included.
pub(super) fn sizes(
    kernel: &'static str,
    conv: &Conv2d,
    x: Option<usize>,
    weight: Option<usize>,
    y: Option<usize>,
) -> Result<()> {
    let Conv2d { batch, groups, in_channels, out_channels, input, output, window } = *conv;
    let divides = |channels: usize| groups > 0 && channels.is_multiple_of(groups);
    if !(divides(in_channels) && divides(out_channels)) {
        return Err(refused(conv, "groups that divide the channels"));
    }
    if window.output(input) != Some(output) {
        return Err(refused(conv, "the window's own outputs"));
    }
    let ((h, w), (oh, ow), (kh, kw)) = (input, output, window.kernel);
    for (name, got, sizes) in [
        ("x", x, [batch, in_channels, h, w]),
        ("w", weight, [out_channels, in_channels / groups, kh, kw]),
        ("y", y, [batch, out_channels, oh, ow]),
    ] {
        let all = product(&sizes).ok_or_else(|| refused(conv, "fewer numbers"))?;
        length(kernel, name, got.unwrap_or(all), &sizes)?;
    }
    product(&[batch, in_channels, kh, kw, oh, ow]).ok_or_else(|| refused(conv, "fewer patches"))?;
    Ok(())
}

fn refused(conv: &Conv2d, expected: &'static str) -> CudaError {
    let Conv2d { batch, groups, in_channels, out_channels, input, output, window } = *conv;
    let (kernel, what) = (window.kernel, "a convolution's N, C, O, groups, H, W, OH, OW, KH, KW");
    let sizes = [batch, in_channels, out_channels, groups, input.0, input.1, output.0, output.1];
    let sizes = [&sizes[..], &[kernel.0, kernel.1]].concat();
    CudaError::Sizes { what, sizes, expected }
}

/// A number for each channel at all of its `pixels`, for sums to be added to. Without a bias nothing is
/// written, and the factor of what was there is 0.
fn lay_down(
    gpu: &Gpu,
    (images, channels, pixels): (usize, usize, usize),
    bias: Option<Slice<'_>>,
    out: &SliceMut<'_>,
) -> Result<f64> {
    let Some(bias) = bias else { return Ok(0.0) };
    strided::copy(gpu, &[images, channels, pixels], &[0, 1, 0], bias, out)?;
    Ok(1.0)
}

/// The sizes as kernels take them.
pub(super) fn image(sizes: &Conv2d) -> Result<Image> {
    let channels = (sizes.batch, sizes.in_channels, sizes.out_channels, sizes.groups);
    Image::new(channels, sizes.input, &sizes.window, sizes.output)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unfold::Window;

    #[test]
    fn the_rungs_follow_from_the_sizes() {
        let around = Window { padding: (1, 1), ..Window::new((3, 3)) };
        let of = |batch, groups, outputs, window, map| {
            let conv = Conv2d::new(batch, groups, 32, outputs, (10, 10), window);
            conv.map(|conv| rungs(&conv, map, Scalar::F32))
        };
        let library: &[Rung] = &[Rung::Cudnn, Rung::Unfolded];
        assert_eq!(of(2, 1, 32, around, Map::Output), Some(library));
        assert_eq!(of(2, 4, 32, around, Map::InputGradient), Some(library));
        assert_eq!(of(2, 8, 32, around, Map::Output), Some(&[Rung::Cudnn, Rung::Direct][..]));
        for outputs in [32, 64] {
            assert_eq!(of(2, 32, outputs, around, Map::Output), Some(&[Rung::Direct][..]));
        }
        let pointwise = Window::new((1, 1));
        assert_eq!(of(2, 1, 32, pointwise, Map::Output), Some(&[Rung::Unfolded][..]));
        assert_eq!(of(2, 1, 32, pointwise, Map::WeightGradient), Some(library));
        let strided = Window { stride: (2, 2), ..pointwise };
        assert_eq!(of(2, 1, 32, strided, Map::Output), Some(library));
        let odd = Conv2d::new(2, 1, 32, 32, (7, 7), pointwise).unwrap();
        assert_eq!(rungs(&odd, Map::Output, Scalar::F32), library, "196 bytes");
        let half = Conv2d::new(2, 1, 32, 32, (14, 14), pointwise).unwrap();
        assert_eq!(rungs(&half, Map::Output, Scalar::F32), [Rung::Unfolded], "784 bytes");
        assert_eq!(rungs(&half, Map::Output, Scalar::BF16), library, "392 bytes");
        assert_eq!(of(0, 1, 32, around, Map::WeightGradient), Some(&[Rung::Direct][..]));
        assert_eq!(of(2, 1, 0, around, Map::InputGradient), Some(&[Rung::Direct][..]));
    }
}
