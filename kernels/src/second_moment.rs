//! Sums of squares and of outer products: what curvature reads, reduced while the data is hot.
//!
//! | kernel | of | result |
//! |---|---|---|
//! | [`column_squares`] | rows `[R, W]` | Σᵣ x² for each column |
//! | [`channel_squares`] | images `[N, C, S]` | Σ over n, s of x² for each channel |
//! | [`patch_squares`] | a convolution's input | Σ over windows of x² for each kernel tap, **no patches** |
//! | [`gram`] | rows `[R, W]` | Σᵣ x xᵀ |
//! | [`channel_gram`] | images `[N, C, S]` | Σ over n, s of x xᵀ |
//! | [`patch_gram`] | a convolution's input | Σ over windows of p pᵀ, patches one image at a time |
//!
//! A sum over windows for one tap (i, j) is a strided sum over the image: no patch has to be formed
//! for the diagonal.

use crate::conv::{Conv2d, sum_over_images};
use crate::gemm::{self, Matrix};
use crate::{Float, parallel};

/// Rows are summed in blocks of this many, then the blocks: accurate, and the same on any machine.
const BLOCK: usize = 256;

/// out\[w\] = Σ over rows of x\[r, w\]²
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
    assert_eq!((x.len(), out.len()), (rows * width, width), "column_squares: lengths");
    out.fill(T::ZERO);
    if width == 0 {
        return;
    }
    let mut partial = vec![T::ZERO; width];
    for block in x.chunks(BLOCK * width) {
        partial.fill(T::ZERO);
        for row in block.chunks_exact(width) {
            partial.iter_mut().zip(row).for_each(|(sum, &x)| *sum += x * x);
        }
        out.iter_mut().zip(&partial).for_each(|(sum, &x)| *sum += x);
    }
}

/// out\[c\] = Σ over n and s of x\[n, c, s\]²
///
/// # Shape
/// x: \[n, c, s\] · out: \[c\]
pub fn channel_squares<T: Float>(x: &[T], n: usize, c: usize, s: usize, out: &mut [T]) {
    assert_eq!((x.len(), out.len()), (n * c * s, c), "channel_squares: lengths");
    out.fill(T::ZERO);
    if x.is_empty() {
        return;
    }
    for image in x.chunks_exact(c * s) {
        for (sum, plane) in out.iter_mut().zip(image.chunks_exact(s)) {
            *sum += squares(plane);
        }
    }
}

/// out\[g, d\] = Σ over images and window positions of the square of what tap d of group g sees.
/// A strided window sum of x²: one pass over the image for each kernel offset.
///
/// # Shape
/// x: \[N, C, H, W\] · out: \[groups, C/groups · KH · KW\]
pub fn patch_squares<T: Float>(conv: &Conv2d, x: &[T], out: &mut [T]) {
    conv.check("patch_squares", Some(x.len()), None, None);
    let taps = conv.window.kernel.0 * conv.window.kernel.1;
    assert_eq!(out.len(), conv.in_channels * taps, "patch_squares: output length");
    out.fill(T::ZERO);
    if x.is_empty() || taps == 0 {
        return;
    }
    let (pixels, unit) = (conv.pixels(), taps);
    parallel::pieces(out, unit, |start, out| {
        for (i, sums) in out.chunks_exact_mut(taps).enumerate() {
            let channel = start / taps + i;
            for n in 0..conv.batch {
                let plane = &x[(n * conv.in_channels + channel) * pixels..][..pixels];
                add_window_squares(conv, plane, sums);
            }
        }
    });
}

/// sums\[tap\] += Σ over positions of plane\[pixel under the tap\]²
fn add_window_squares<T: Float>(conv: &Conv2d, plane: &[T], sums: &mut [T]) {
    let (columns, step) = (conv.window.kernel.1, conv.window.stride.1);
    for (tap, sum) in sums.iter_mut().enumerate() {
        conv.window.runs(
            (tap / columns, tap % columns),
            conv.input,
            conv.output,
            |pixel, _, count| {
                *sum += if step == 1 {
                    squares(&plane[pixel..pixel + count])
                } else {
                    plane[pixel..].iter().step_by(step).take(count).map(|&x| x * x).sum()
                };
            },
        );
    }
}

/// Σ x², in eight interleaved sums.
fn squares<T: Float>(x: &[T]) -> T {
    let mut sums = [T::ZERO; 8];
    let chunks = x.chunks_exact(8);
    let rest: T = chunks.remainder().iter().map(|&x| x * x).sum();
    for chunk in chunks {
        for (sum, &x) in sums.iter_mut().zip(chunk) {
            *sum += x * x;
        }
    }
    sums.into_iter().sum::<T>() + rest
}

/// out = Σ over rows of x xᵀ, exactly symmetric.
///
/// # Shape
/// x: \[rows, width\] · out: \[width, width\]
///
/// # Example
/// ```
/// let mut out = [0.0; 4];
/// alcyon_kernels::second_moment::gram(&[1.0, 2.0, 3.0, 4.0], 2, 2, &mut out);
/// assert_eq!(out, [10.0, 14.0, 14.0, 20.0]);
/// ```
pub fn gram<T: Float>(x: &[T], rows: usize, width: usize, out: &mut [T]) {
    assert_eq!((x.len(), out.len()), (rows * width, width * width), "gram: lengths");
    let x = Matrix::new(x, rows, width);
    gemm::gemm(T::ONE, x.t(), x, T::ZERO, out);
    mirror(out, width);
}

/// [`gram`] of the rows with a 1 appended to each; the ones are not written down.
///
/// # Shape
/// x: \[rows, width\] · out: \[width + 1, width + 1\]
pub fn gram_with_ones<T: Float>(x: &[T], rows: usize, width: usize, out: &mut [T]) {
    assert_eq!(out.len(), (width + 1) * (width + 1), "gram_with_ones: output length");
    let mut inner = vec![T::ZERO; width * width];
    gram(x, rows, width, &mut inner);
    let mut sums = vec![T::ZERO; width];
    crate::reduce::sum_axis(x, 1, rows, width, &mut sums);
    border(&inner, &sums, T::of(rows as f64), width, out);
}

/// out = \[\[inner, sums\], \[sumsᵀ, count\]\]
fn border<T: Float>(inner: &[T], sums: &[T], count: T, width: usize, out: &mut [T]) {
    let wide = width + 1;
    for i in 0..width {
        out[i * wide..][..width].copy_from_slice(&inner[i * width..][..width]);
        out[i * wide + width] = sums[i];
    }
    out[width * wide..][..width].copy_from_slice(sums);
    out[wide * wide - 1] = count;
}

/// Makes the lower triangle equal to the upper one: a product computes them separately.
fn mirror<T: Float>(m: &mut [T], n: usize) {
    for i in 0..n {
        for j in 0..i {
            m[i * n + j] = m[j * n + i];
        }
    }
}

/// out = Σ over n and s of x\[n, ·, s\] x\[n, ·, s\]ᵀ, exactly symmetric.
///
/// # Shape
/// x: \[n, c, s\] · out: \[c, c\]
pub fn channel_gram<T: Float>(x: &[T], n: usize, c: usize, s: usize, out: &mut [T]) {
    assert_eq!((x.len(), out.len()), (n * c * s, c * c), "channel_gram: lengths");
    out.fill(T::ZERO);
    if x.is_empty() {
        return;
    }
    for image in x.chunks_exact(c * s) {
        let image = Matrix::new(image, c, s);
        gemm::gemm(T::ONE, image, image.t(), T::ONE, out);
    }
    mirror(out, c);
}

/// out\[g\] = Σ over images and positions of p pᵀ for the patches p of group g (with a 1 appended
/// if `with_ones`), exactly symmetric. Patches exist for one image and group at a time.
///
/// # Shape
/// x: \[N, C, H, W\] · out: \[groups, D (+1), D (+1)\], D = C/groups · KH · KW
pub fn patch_gram<T: Float>(conv: &Conv2d, x: &[T], with_ones: bool, out: &mut [T]) {
    conv.check("patch_gram", Some(x.len()), None, None);
    let (d, p) = (conv.patch(), conv.positions());
    let wide = d + usize::from(with_ones);
    assert_eq!(out.len(), conv.groups * wide * wide, "patch_gram: output length");
    let mut sums = vec![T::ZERO; conv.groups * d * (d + 1)];
    let add_images = |images: std::ops::Range<usize>, alone: bool, total: &mut [T]| {
        total.fill(T::ZERO);
        let mut scratch = conv.scratch::<T>();
        for n in images {
            for (g, total) in total.chunks_exact_mut((d * (d + 1)).max(1)).enumerate() {
                let image = &x[(n * conv.groups + g) * conv.group_image()..][..conv.group_image()];
                let columns = conv.columns(alone, image, &mut scratch);
                let (products, tap_sums) = total.split_at_mut(d * d);
                let matrix = Matrix::new(columns, d, p);
                let product = if alone { gemm::sequential } else { gemm::gemm };
                product(T::ONE, matrix, matrix.t(), T::ONE, products);
                for (sum, column) in tap_sums.iter_mut().zip(columns.chunks_exact(p.max(1))) {
                    *sum += column.iter().copied().sum();
                }
            }
        }
    };
    sum_over_images(conv.batch, conv.groups * p * d, &mut sums, add_images);
    let count = T::of((conv.batch * p) as f64);
    for (out, sums) in out.chunks_exact_mut(wide * wide).zip(sums.chunks_exact(d * (d + 1))) {
        let (products, tap_sums) = sums.split_at(d * d);
        if with_ones {
            border(products, tap_sums, count, d, out);
        } else {
            out.copy_from_slice(products);
        }
        mirror(out, wide);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, noise, unwritten};
    use crate::unfold::{Window, unfold};

    /// Σ x xᵀ of rows (with a 1 appended), by three loops.
    fn reference_gram(rows: &[Vec<f64>], ones: bool) -> Vec<f64> {
        let rows: Vec<Vec<f64>> = rows
            .iter()
            .map(|r| if ones { [r.as_slice(), &[1.0]].concat() } else { r.clone() })
            .collect();
        let width = rows.first().map_or(0, Vec::len);
        let entry = |k: usize| rows.iter().map(|r| r[k / width] * r[k % width]).sum();
        (0..width * width).map(entry).collect()
    }

    #[test]
    fn squares_and_grams_of_rows_agree_with_three_loops() {
        for rows in [1, 2, 7, 300] {
            for width in 1..6 {
                let x = noise::<f64>(rows * width, (rows * 10 + width) as u64);
                let by_row: Vec<Vec<f64>> = x.chunks(width).map(<[f64]>::to_vec).collect();
                for ones in [false, true] {
                    let want = reference_gram(&by_row, ones);
                    let mut got = unwritten(want.len());
                    if ones {
                        gram_with_ones(&x, rows, width, &mut got);
                    } else {
                        gram(&x, rows, width, &mut got);
                    }
                    assert_close(&got, &want, 1e-12);
                }
                let mut got = unwritten(width);
                column_squares(&x, rows, width, &mut got);
                let want: Vec<f64> =
                    reference_gram(&by_row, false).into_iter().step_by(width + 1).collect();
                assert_close(&got, &want, 1e-12);
            }
        }
    }

    #[test]
    fn sums_over_channels_agree_with_the_same_numbers_as_rows() {
        let (n, c, s) = (3, 4, 5);
        let x = noise::<f64>(n * c * s, 1);
        let rows: Vec<Vec<f64>> =
            (0..n * s).map(|r| (0..c).map(|k| x[(r / s * c + k) * s + r % s]).collect()).collect();
        let want = reference_gram(&rows, false);
        let mut got = unwritten(c * c);
        channel_gram(&x, n, c, s, &mut got);
        assert_close(&got, &want, 1e-12);
        let mut got = unwritten(c);
        channel_squares(&x, n, c, s, &mut got);
        let diagonal: Vec<f64> = want.into_iter().step_by(c + 1).collect();
        assert_close(&got, &diagonal, 1e-12);
    }

    #[test]
    fn sums_over_patches_agree_with_patches_that_were_formed() {
        let windows = [
            ((1, 1), (1, 1), (0, 0), (1, 1)),
            ((3, 3), (1, 1), (1, 1), (1, 1)),
            ((3, 2), (2, 1), (1, 0), (1, 1)),
            ((2, 3), (3, 2), (2, 2), (1, 2)),
            ((3, 3), (1, 2), (3, 4), (2, 1)),
        ];
        for (kernel, stride, padding, dilation) in windows {
            for groups in [1, 2] {
                let window = Window { kernel, stride, padding, dilation };
                let (n, c, h, w) = (3, 4, 6, 5);
                let conv = Conv2d::new(n, groups, c, groups, (h, w), window).unwrap();
                let x = noise::<f64>(n * c * h * w, 5);
                let (d, p) = (conv.patch(), conv.positions());
                let mut rows = vec![Vec::new(); groups];
                for image in x.chunks(c * h * w) {
                    let mut columns = unwritten(groups * d * p);
                    unfold(image, c, h, w, &window, &mut columns);
                    for (g, rows) in rows.iter_mut().enumerate() {
                        rows.extend((0..p).map(|s| {
                            (0..d).map(|k| columns[(g * d + k) * p + s]).collect::<Vec<f64>>()
                        }));
                    }
                }
                for ones in [false, true] {
                    let want: Vec<f64> =
                        rows.iter().flat_map(|r| reference_gram(r, ones)).collect();
                    let mut got = unwritten(want.len());
                    patch_gram(&conv, &x, ones, &mut got);
                    assert_close(&got, &want, 1e-11);
                }
                let want: Vec<f64> = rows
                    .iter()
                    .flat_map(|r| reference_gram(r, false).into_iter().step_by(d + 1))
                    .collect();
                let mut got = unwritten(groups * d);
                patch_squares(&conv, &x, &mut got);
                assert_close(&got, &want, 1e-11);
            }
        }
    }

    #[test]
    fn threads_do_not_change_a_sum_of_patches() {
        let window = Window { kernel: (3, 3), stride: (1, 1), padding: (1, 1), dilation: (1, 1) };
        let conv = Conv2d::new(9, 1, 8, 8, (16, 16), window).unwrap();
        let x = noise::<f32>(9 * 8 * 256, 3);
        crate::oracle::assert_same_bits_for_any_number_of_threads(|| {
            let mut out = unwritten(73 * 73);
            patch_gram(&conv, &x, true, &mut out);
            let mut squares = unwritten(72);
            patch_squares(&conv, &x, &mut squares);
            out.extend(squares);
            out
        });
    }
}
