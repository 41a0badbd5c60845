//! The ladders to [`patch_squares`](super::patch_squares) and [`gram`](super::gram()): each rung does one
//! thing more than the one before.
//!
//! Σ patch\[d\]² over all positions of all images:
//!
//! | rung                        | changes                                                 | gain |
//! |-----------------------------|---------------------------------------------------------|------|
//! | [`reference_patch_squares`] | the patches of all images as rows, then their squares   | 1    |
//! | [`unfolded_patch_squares`]  | the patches of one image at a time, which the cache holds | 5.4 |
//! | [`shifted_patch_squares`]   | no patches: a tap sees the image shifted, a box of it   | 4.6 |
//! | [`patch_squares`](super::patch_squares) | images are squared and added first: a box is added up once, not once for each image; threads take channels | 160 |
//!
//! xᵀx for rows x:
//!
//! | rung                   | changes                                                      | gain |
//! |------------------------|--------------------------------------------------------------|------|
//! | [`reference_gram`]     | three loops, the definition                                  | 1    |
//! | [`product_gram`]       | a matrix product: [`gemm`](mod@crate::gemm) is a ladder of its own | 160 |
//! | [`gram`](super::gram()) | half of a symmetric matrix is enough: tiles above the diagonal, and a mirror | 200 |
//!
//! The gains over the first rungs: `kernel/patch_squares` (64 images of 16 channels and 14², 3 × 3)
//! and `kernel/gram` (4096 × 256) of `benches/kernels.rs`, f32, the medians of three runs on an EPYC
//! 7003 (AVX2), two cores, 2026-11-22.

use crate::conv::Conv2d;
use crate::float::Float;
use crate::gemm::{self, Matrix};
use crate::reduce::dot_lanes;
use crate::sizes::elements;
use crate::unfold::unfold;

/// [`patch_squares`](super::patch_squares) by the definition: all patches as rows, then the squares of
/// their columns.
///
/// # Shape
/// x: as in [`Conv2d`] · out: \[groups, D\]
///
/// # Example
/// ```
/// use alcyon_kernels::{conv::Conv2d, second_moment::ladder, unfold::Window};
/// let conv = Conv2d::new(1, 1, 1, 1, (1, 3), Window::new((1, 2))).unwrap();
/// let mut out = [0.0; 2];
/// ladder::reference_patch_squares(&conv, &[1.0, 2.0, 3.0], &mut out);
/// assert_eq!(out, [1.0 + 4.0, 4.0 + 9.0]);
/// ```
pub fn reference_patch_squares<T: Float>(conv: &Conv2d, x: &[T], out: &mut [T]) {
    check(conv, x, out);
    let d = conv.patch();
    for (group, out) in out.chunks_exact_mut(d).enumerate() {
        let rows = patches(conv, x, group);
        for (i, out) in out.iter_mut().enumerate() {
            *out = rows.chunks_exact(d).map(|row| row[i] * row[i]).sum();
        }
    }
}

/// [`patch_squares`](super::patch_squares) with the patches of one image at a time.
pub fn unfolded_patch_squares<T: Float>(conv: &Conv2d, x: &[T], out: &mut [T]) {
    check(conv, x, out);
    let (d, p, pixels) = (conv.patch(), conv.positions(), conv.group_image());
    out.fill(T::ZERO);
    let mut scratch = conv.scratch();
    for (at, image) in x.chunks_exact(pixels).enumerate() {
        let columns = conv.columns(true, image, &mut scratch);
        let out = out.chunks_exact_mut(d).nth(at % conv.groups).into_iter().flatten();
        out.zip(columns.chunks_exact(p)).for_each(|(out, x)| *out += dot_lanes(x, x));
    }
}

/// [`patch_squares`](super::patch_squares) without patches, image by image.
pub fn shifted_patch_squares<T: Float>(conv: &Conv2d, x: &[T], out: &mut [T]) {
    check(conv, x, out);
    let (pixels, (kh, kw)) = (conv.pixels(), conv.window.kernel);
    let stride = conv.window.stride.1;
    out.fill(T::ZERO);
    for (at, plane) in x.chunks_exact(pixels).enumerate() {
        let channel = at % conv.in_channels;
        let out = &mut out[channel * kh * kw..][..kh * kw];
        conv.window.each_run(conv.input, conv.output, |tap, pixel, _, count| {
            let seen = plane[pixel..].iter().step_by(stride).take(count);
            out[tap] += seen.map(|&x| x * x).sum::<T>();
        });
    }
}

/// [`patch_gram`](super::patch_gram) by the definition: all patches as rows, then [`reference_gram`].
pub fn reference_patch_gram<T: Float>(conv: &Conv2d, x: &[T], with_ones: bool, out: &mut [T]) {
    conv.check("reference_patch_gram", Some(x.len()), None, None);
    let (d, side) = (conv.patch(), conv.patch() + usize::from(with_ones));
    let length = elements("reference_patch_gram", [conv.groups, side, side]);
    assert_eq!(out.len(), length, "reference_patch_gram: output length");
    for (group, out) in out.chunks_exact_mut((side * side).max(1)).enumerate() {
        let rows = patches(conv, x, group);
        reference_gram(&rows, conv.batch * conv.positions(), d, with_ones, out);
    }
}

/// [`gram`](super::gram()) and [`gram_with_ones`](super::gram_with_ones) by the definition.
///
/// # Shape
/// x: \[rows, width\] · out: \[width, width\], or one more of both with `ones`
///
/// # Example
/// ```
/// let mut out = [0.0; 4];
/// alcyon_kernels::second_moment::ladder::reference_gram(&[2.0, 3.0], 2, 1, true, &mut out);
/// assert_eq!(out, [13.0, 5.0, 5.0, 2.0]);
/// ```
pub fn reference_gram<T: Float>(x: &[T], rows: usize, width: usize, ones: bool, out: &mut [T]) {
    let side = width + usize::from(ones);
    let lengths = [[rows, width], [side, side]].map(|sizes| elements("reference_gram", sizes));
    assert_eq!([x.len(), out.len()], lengths, "reference_gram: lengths");
    let get = |r: usize, i: usize| if i < width { x[r * width + i] } else { T::ONE };
    for (at, out) in out.iter_mut().enumerate() {
        *out = (0..rows).map(|r| get(r, at / side) * get(r, at % side)).sum();
    }
}

/// [`gram`](super::gram()) as one product of xᵀ with x.
pub fn product_gram<T: Float>(x: &[T], rows: usize, width: usize, out: &mut [T]) {
    let x = Matrix::new(x, rows, width);
    gemm::gemm(T::ONE, x.t(), x, T::ZERO, out);
}

/// The patches of one group of all images, \[N · P, D\].
fn patches<T: Float>(conv: &Conv2d, x: &[T], group: usize) -> Vec<T> {
    let (d, p, pixels) = (conv.patch(), conv.positions(), conv.group_image());
    let (channels, (h, w)) = (conv.in_channels / conv.groups, conv.input);
    let (mut rows, mut columns) = (vec![T::ZERO; conv.batch * p * d], vec![T::ZERO; d * p]);
    for image in 0..conv.batch {
        let at = (image * conv.groups + group) * pixels;
        unfold(&x[at..at + pixels], channels, h, w, &conv.window, &mut columns);
        for (i, &value) in columns.iter().enumerate() {
            rows[(image * p + i % p) * d + i / p] = value;
        }
    }
    rows
}

fn check<T>(conv: &Conv2d, x: &[T], out: &[T]) {
    conv.check("patch_squares", Some(x.len()), None, None);
    assert_eq!(out.len(), conv.groups * conv.patch(), "patch_squares: output length");
}
