//! Second moments of rows, channels and patches: what curvature estimates are made of.
//!
//! | function | of | result |
//! |---|---|---|
//! | [`column_squares`] | rows x | Σᵣ xᵣᵢ², the diagonal of xᵀx |
//! | [`gram`], [`gram_with_ones`] | rows x | xᵀx, with a column of ones if the layer has a bias |
//! | [`channel_squares`], [`channel_gram`] | \[N, C, S\] | the same with the rows at (n, s) |
//! | [`patch_squares`], [`patch_gram`] | patches of images | the same with patches as rows |
//!
//! These are sums, not means: who knows the number of terms divides. Grams are exactly symmetric,
//! because only tiles on and above the diagonal are multiplied and the rest is mirrored.
//!
//! The diagonal for patches needs no patches: tap (i, j) of the window sees the image shifted, so
//! Σ over images comes first, once, and then each tap adds up one strided box of the squares. How
//! this became fast is in [`ladder`], rung by rung.

pub mod ladder;

use crate::conv::Conv2d;
use crate::conv::unfolded::sum_over_images;
use crate::float::Float;
use crate::gemm::{self, Matrix};
use crate::parallel;
use crate::pool::Buffer;
use crate::reduce::{channel_sums, in_row_blocks, square_sum_axis, sum_lanes};
use crate::sizes::elements;

/// The width of the tiles of a gram matrix. Narrower grams are one tile, summed in blocks of rows.
const TILE: usize = 128;

/// out\[i\] = Σᵣ x\[r, i\]²
///
/// # Shape
/// x: \[rows, width\] · out: \[width\]
///
/// # Example
/// ```
/// let mut out = [0.0; 2];
/// alcyon_kernels::second_moment::column_squares(&[1.0, 2.0, 3.0, 4.0], 2, 2, &mut out);
/// assert_eq!(out, [10.0, 20.0]);
/// ```
pub fn column_squares<T: Float>(x: &[T], rows: usize, width: usize, out: &mut [T]) {
    square_sum_axis(x, 1, rows, width, out);
}

/// out\[k\] = Σ over n and s of x\[n, k, s\]²
///
/// # Shape
/// x: \[n, c, s\] · out: \[c\]
///
/// # Example
/// ```
/// let mut out = [0.0; 2];
/// alcyon_kernels::second_moment::channel_squares(&[1.0, 2.0, 3.0, 4.0], 1, 2, 2, &mut out);
/// assert_eq!(out, [5.0, 25.0]);
/// ```
pub fn channel_squares<T: Float>(x: &[T], n: usize, c: usize, s: usize, out: &mut [T]) {
    let length = elements("channel_squares", [n, c, s]);
    assert_eq!((x.len(), out.len()), (length, c), "channel_squares: lengths");
    channel_sums(x, x, (n, c, s), out, |_, x, _| x * x);
}

/// out = xᵀx
///
/// # Shape
/// x: \[rows, width\] · out: \[width, width\], exactly symmetric
///
/// # Example
/// ```
/// let mut out = [0.0; 4];
/// alcyon_kernels::second_moment::gram(&[1.0, 2.0, 3.0, 4.0], 2, 2, &mut out);
/// assert_eq!(out, [10.0, 14.0, 14.0, 20.0]);
/// ```
pub fn gram<T: Float>(x: &[T], rows: usize, width: usize, out: &mut [T]) {
    gram_of_rows(x, rows, width, false, out);
}

/// out = \[x 1\]ᵀ\[x 1\], the second moment of rows with a one appended: the input factor of a layer
/// with a bias. The last row and column are the column sums of x, the corner is the number of rows.
///
/// # Shape
/// x: \[rows, width\] · out: \[width + 1, width + 1\], exactly symmetric
///
/// # Example
/// ```
/// let mut out = [0.0; 4];
/// alcyon_kernels::second_moment::gram_with_ones(&[2.0, 3.0], 2, 1, &mut out);
/// assert_eq!(out, [13.0, 5.0, 5.0, 2.0]);
/// ```
pub fn gram_with_ones<T: Float>(x: &[T], rows: usize, width: usize, out: &mut [T]) {
    gram_of_rows(x, rows, width, true, out);
}

/// out = Σₙ GₙGₙᵀ for Gₙ = g\[n\] as a matrix \[c, s\].
///
/// # Shape
/// g: \[n, c, s\] · out: \[c, c\], exactly symmetric
///
/// # Example
/// ```
/// let mut out = [0.0; 4];
/// alcyon_kernels::second_moment::channel_gram(&[1.0, 2.0, 3.0, 4.0], 1, 2, 2, &mut out);
/// assert_eq!(out, [5.0, 11.0, 11.0, 25.0]);
/// ```
pub fn channel_gram<T: Float>(g: &[T], n: usize, c: usize, s: usize, out: &mut [T]) {
    let lengths = (elements("channel_gram", [n, c, s]), elements("channel_gram", [c, c]));
    assert_eq!((g.len(), out.len()), lengths, "channel_gram: lengths");
    if s == 1 {
        return gram(g, n, c, out);
    }
    sum_over_images(n, c * c * s, out, |images, alone, out| {
        out.fill(T::ZERO);
        for image in images {
            let rows = Matrix::new(&g[image * c * s..(image + 1) * c * s], c, s).t();
            add_upper(alone, rows, false, out);
        }
    });
    mirror(out, c);
}

/// out\[group, d\] = Σ over images and positions of patch\[d\]², without forming patches.
///
/// # Shape
/// x: as in [`Conv2d`] · out: \[groups, D\], D = C/groups · KH · KW
///
/// # Example
/// ```
/// use alcyon_kernels::{conv::Conv2d, second_moment::patch_squares, unfold::Window};
/// let conv = Conv2d::new(1, 1, 1, 1, (1, 3), Window::new((1, 2))).unwrap();
/// let mut out = [0.0; 2];
/// patch_squares(&conv, &[1.0, 2.0, 3.0], &mut out);
/// assert_eq!(out, [1.0 + 4.0, 4.0 + 9.0]);
/// ```
pub fn patch_squares<T: Float>(conv: &Conv2d, x: &[T], out: &mut [T]) {
    conv.check("patch_squares", Some(x.len()), None, None);
    assert_eq!(out.len(), conv.groups * conv.patch(), "patch_squares: output length");
    let (pixels, (kh, kw)) = (conv.pixels(), conv.window.kernel);
    // LOOP 1: the squares of all images, added up.
    let mut squares = Buffer::unspecified(conv.in_channels * pixels);
    square_sum_axis(x, 1, conv.batch, conv.in_channels * pixels, &mut squares);
    // LOOP 2: for each channel and tap, the box of pixels that the tap sees.
    parallel::rows(out, kh * kw, kh * kw * conv.positions(), |channel, out| {
        let plane = &squares[channel * pixels..(channel + 1) * pixels];
        let stride = conv.window.stride.1;
        for (tap, out) in out.iter_mut().enumerate() {
            *out = T::ZERO;
            let tap = (tap / kw, tap % kw);
            conv.window.runs(tap, conv.input, conv.output, |pixel, _, count| {
                *out += if stride == 1 {
                    sum_lanes(&plane[pixel..pixel + count])
                } else {
                    plane[pixel..].iter().step_by(stride).take(count).copied().sum()
                };
            });
        }
    });
}

/// out\[group\] = Σ over images and positions of patch·patchᵀ, each patch with a one appended if
/// `with_ones`. Patches exist for one image at a time.
///
/// # Shape
/// x: as in [`Conv2d`] · out: \[groups, D, D\] or \[groups, D + 1, D + 1\], exactly symmetric
///
/// # Example
/// ```
/// use alcyon_kernels::{conv::Conv2d, second_moment::patch_gram, unfold::Window};
/// let conv = Conv2d::new(1, 1, 1, 1, (1, 3), Window::new((1, 2))).unwrap();
/// let mut out = [0.0; 4];
/// patch_gram(&conv, &[1.0, 2.0, 3.0], false, &mut out); // patches [1, 2] and [2, 3]
/// assert_eq!(out, [5.0, 8.0, 8.0, 13.0]);
/// ```
pub fn patch_gram<T: Float>(conv: &Conv2d, x: &[T], with_ones: bool, out: &mut [T]) {
    conv.check("patch_gram", Some(x.len()), None, None);
    let (d, p, pixels) = (conv.patch(), conv.positions(), conv.group_image());
    let side = d + usize::from(with_ones);
    let length = elements("patch_gram", [conv.groups, side, side]);
    assert_eq!(out.len(), length, "patch_gram: output length");
    sum_over_images(conv.batch, conv.groups * d * d * p, out, |images, alone, out| {
        out.fill(T::ZERO);
        let mut scratch = conv.scratch();
        for image in images {
            for (k, out) in out.chunks_exact_mut((side * side).max(1)).enumerate() {
                let at = (image * conv.groups + k) * pixels;
                let columns = conv.columns(alone, &x[at..at + pixels], &mut scratch);
                add_upper(alone, Matrix::new(columns, d, p).t(), with_ones, out);
            }
        }
    });
    out.chunks_exact_mut((side * side).max(1)).for_each(|out| mirror(out, side));
}

fn gram_of_rows<T: Float>(x: &[T], rows: usize, width: usize, ones: bool, out: &mut [T]) {
    assert_eq!(x.len(), elements("gram", [rows, width]), "gram: input length");
    let side = width + usize::from(ones);
    assert_eq!(out.len(), elements("gram", [side, side]), "gram: output length");
    let sum = |from: usize, to: usize, alone: bool, out: &mut [T]| {
        out.fill(T::ZERO);
        let x = Matrix::new(&x[from * width..to * width], to - from, width);
        add_upper(alone, x, ones, out);
    };
    if width <= TILE {
        // Many rows, few columns: threads take blocks of rows.
        in_row_blocks(rows, width, out, |from, to, out| sum(from, to, true, out));
    } else {
        sum(0, rows, false, out);
    }
    mirror(out, side);
}

/// out += xᵀx on and above the diagonal, by tiles; with the column sums of x at the right if `ones`.
fn add_upper<T: Float>(alone: bool, x: Matrix<'_, T>, ones: bool, out: &mut [T]) {
    let (rows, width) = (x.rows(), x.cols());
    let side = width + usize::from(ones);
    for top in (0..width).step_by(TILE) {
        let height = TILE.min(width - top);
        let (left, right) = (x.columns(top, top + height), x.columns(top, width));
        let tile = (&mut out[top * side + top..], side);
        gemm::into_strided(alone, T::ONE, left.t(), right, T::ONE, tile);
    }
    if ones {
        // A column of ones is one number with strides of 0.
        let column = [T::ONE];
        let column = Matrix::strided(&column, rows, 1, 0, 0);
        if width > 0 {
            let right = (&mut out[width..], side);
            gemm::into_strided(alone, T::ONE, x.t(), column, T::ONE, right);
        }
        out[side * side - 1] += T::of(rows as f64);
    }
}

/// Copies the part above the diagonal below it.
fn mirror<T: Float>(out: &mut [T], side: usize) {
    for i in 1..side {
        for j in 0..i {
            out[i * side + j] = out[j * side + i];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::ladder::{
        product_gram, reference_gram, reference_patch_gram, reference_patch_squares,
        shifted_patch_squares, unfolded_patch_squares,
    };
    use super::*;
    use crate::oracle::{
        assert_close, assert_same_bits_for_any_number_of_threads, noise, unwritten,
    };
    use crate::unfold::Window;
    use proptest::prelude::*;

    fn is_symmetric(out: &[f64], side: usize) -> bool {
        (0..side * side).all(|at| out[at] == out[at % side * side + at / side])
    }

    #[test]
    fn grams_agree_with_the_definition_and_are_exactly_symmetric() {
        let small = (0..12).flat_map(|rows| (0..12).map(move |width| (rows, width)));
        for (rows, width) in small.chain([(1500, 9), (40, 300), (3, 257)]) {
            let x = noise::<f64>(rows * width, 1);
            for ones in [false, true] {
                let side = width + usize::from(ones);
                let (mut got, mut want) = (unwritten(side * side), unwritten(side * side));
                if ones {
                    gram_with_ones(&x, rows, width, &mut got);
                } else {
                    gram(&x, rows, width, &mut got);
                }
                reference_gram(&x, rows, width, ones, &mut want);
                assert_close(&got, &want, 1e-12);
                assert!(is_symmetric(&got, side));
            }
            let [mut product, mut whole] = [(); 2].map(|()| unwritten(width * width));
            reference_gram(&x, rows, width, false, &mut product);
            product_gram(&x, rows, width, &mut whole);
            assert_close(&whole, &product, 1e-12);
            let mut squares = unwritten(width);
            column_squares(&x, rows, width, &mut squares);
            let diagonal: Vec<f64> = (0..width).map(|i| product[i * width + i]).collect();
            assert_close(&squares, &diagonal, 1e-12);
        }
    }

    #[test]
    fn channel_moments_are_those_of_the_rows_at_every_example_and_position() {
        for (n, c, s) in [(3, 4, 5), (20, 3, 7), (9, 5, 1), (0, 2, 3), (1, 1, 1)] {
            let g = noise::<f64>(n * c * s, 1);
            let rows: Vec<f64> =
                (0..n * s * c).map(|at| g[(at / c / s * c + at % c) * s + at / c % s]).collect();
            let (mut got, mut want) = (unwritten(c * c), unwritten(c * c));
            channel_gram(&g, n, c, s, &mut got);
            reference_gram(&rows, n * s, c, false, &mut want);
            assert_close(&got, &want, 1e-12);
            assert!(is_symmetric(&got, c));
            let mut squares = unwritten(c);
            channel_squares(&g, n, c, s, &mut squares);
            assert_close(&squares, &(0..c).map(|k| want[k * c + k]).collect::<Vec<_>>(), 1e-12);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]
        #[test]
        fn patch_moments_agree_with_patches_as_rows(
            (batch, groups, channels) in (0_usize..4, 1_usize..4, 1_usize..3),
            input in (1_usize..8, 1_usize..8),
            kernel in (1_usize..4, 1_usize..4),
            stride in (1_usize..4, 1_usize..4),
            padding in (0_usize..3, 0_usize..3),
            dilation in (1_usize..3, 1_usize..3),
        ) {
            let window = Window { kernel, stride, padding, dilation };
            let inputs = groups * channels;
            let Some(conv) = Conv2d::new(batch, groups, inputs, groups, input, window) else {
                return Ok(());
            };
            let x = noise::<f64>(batch * inputs * input.0 * input.1, 1);
            let d = conv.patch();
            for ones in [true, false] {
                let side = d + usize::from(ones);
                let mut got = unwritten(groups * side * side);
                let mut want = unwritten(got.len());
                patch_gram(&conv, &x, ones, &mut got);
                reference_patch_gram(&conv, &x, ones, &mut want);
                assert_close(&got, &want, 1e-12);
                for got in got.chunks(side * side) {
                    prop_assert!(is_symmetric(got, side));
                }
                if !ones {
                    let diagonal: Vec<f64> = (0..groups * d)
                        .map(|at| want[at / d * d * d + at % d * (d + 1)])
                        .collect();
                    for rung in [
                        reference_patch_squares,
                        unfolded_patch_squares,
                        shifted_patch_squares,
                        patch_squares,
                    ] {
                        let mut squares = unwritten(groups * d);
                        rung(&conv, &x, &mut squares);
                        assert_close(&squares, &diagonal, 1e-12);
                    }
                }
            }
        }
    }

    #[test]
    fn threads_do_not_change_a_moment() {
        let x = noise::<f32>(3000 * 64, 1);
        let window = Window { padding: (1, 1), ..Window::new((3, 3)) };
        let conv = Conv2d::new(30, 1, 16, 16, (20, 20), window).unwrap();
        assert_same_bits_for_any_number_of_threads(|| {
            let mut tall = unwritten(65 * 65);
            gram_with_ones(&x, 3000, 64, &mut tall);
            let mut wide = unwritten(640 * 640);
            gram(&x, 300, 640, &mut wide);
            let mut patches = unwritten(144 * 144);
            patch_gram(&conv, &x, false, &mut patches);
            let mut squares = unwritten(144);
            patch_squares(&conv, &x, &mut squares);
            [tall, wide, patches, squares].concat()
        });
    }
}
