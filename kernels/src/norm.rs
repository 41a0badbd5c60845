//! Layer and batch normalisation: x̂ = (x − μ) / √(σ² + ε), y = scale ∘ x̂ + shift.
//!
//! Layer norm (Ba, Kiros & Hinton 2016) takes μ and σ² over each row, batch norm (Ioffe & Szegedy
//! 2015) over each channel of \[N, C, S\]. With m numbers in a row or channel and ĝ = g ∘ scale,
//!
//! dx = (ĝ − mean(ĝ) − x̂ · mean(ĝ ∘ x̂)) / √(σ² + ε),   dscale = Σ g ∘ x̂,   dshift = Σ g.
//!
//! Variances are biased (divided by m) and taken in a second pass near the mean: the difference of large
//! squares would cancel. How layer norm became fast is in [`ladder`], rung by rung.

mod batch;
pub mod ladder;
mod moments;

pub use batch::{batch_moments, batch_norm, batch_norm_apply, batch_norm_backward, normalized};

pub(crate) use moments::moments;

use crate::float::Float;
use crate::parallel;
use crate::reduce::{in_row_blocks, lanes2, sum_axis, sum_lanes};
use crate::sizes::elements;

/// y = scale ∘ (x − mean) · rstd + shift along rows; writes each row's mean and rstd = 1/√(σ² + ε).
///
/// # Shape
/// x, y: \[R, width\] · scale, shift: \[width\] · mean, rstd: \[R\]
///
/// # Example
/// ```
/// let (mut y, mut mean, mut rstd) = ([0.0; 2], [0.0], [0.0]);
/// alcyon_kernels::norm::layer_norm(&[1.0, 5.0], 2, 0.0, None, None, &mut y, &mut mean, &mut rstd);
/// assert_eq!((y, mean, rstd), ([-1.0, 1.0], [3.0], [0.5]));
/// ```
pub fn layer_norm<T: Float>(
    x: &[T],
    width: usize,
    eps: T,
    scale: Option<&[T]>,
    shift: Option<&[T]>,
    y: &mut [T],
    mean: &mut [T],
    rstd: &mut [T],
) {
    check_layer_norm(width, x, (scale, shift), y, (mean, rstd));
    parallel::rows_and_two(
        (y, width),
        mean,
        rstd,
        4 * width,
        #[inline(always)]
        |r, y, mean, rstd| {
            let x = &x[r * width..(r + 1) * width];
            (*mean, *rstd) = normalise_row(x, eps, (scale, shift), y);
        },
    );
}

/// Scale and shift, each if there is one.
type Affine<'a, T> = (Option<&'a [T]>, Option<&'a [T]>);

/// One row of layer norm; returns its mean and rstd.
#[inline(always)]
fn normalise_row<T: Float>(x: &[T], eps: T, (scale, shift): Affine<'_, T>, y: &mut [T]) -> (T, T) {
    let (mean, variance) = moments(std::iter::once(x), x.len());
    let rstd = T::ONE / (variance + eps).sqrt();
    for (y, &x) in y.iter_mut().zip(x) {
        *y = (x - mean) * rstd;
    }
    if let Some(scale) = scale {
        y.iter_mut().zip(scale).for_each(|(y, &scale)| *y *= scale);
    }
    if let Some(shift) = shift {
        y.iter_mut().zip(shift).for_each(|(y, &shift)| *y += shift);
    }
    (mean, rstd)
}

/// The gradients of [`layer_norm`] (formula above).
///
/// # Shape
/// x, g, dx: \[R, width\] · mean, rstd: \[R\] · scale, dscale, dshift: \[width\]
///
/// # Example
/// ```
/// use alcyon_kernels::norm::layer_norm_backward;
/// // Two numbers normalise to ±1 whatever they are, so nothing flows back.
/// let (mut dx, mut dscale) = ([9.0; 2], [9.0; 2]);
/// layer_norm_backward(
///     &[1.0, 5.0], &[2.0, 7.0], 2, &[3.0], &[0.5], None, &mut dx, Some(&mut dscale), None);
/// assert_eq!((dx, dscale), ([0.0, 0.0], [-2.0, 7.0]));
/// ```
#[expect(clippy::too_many_arguments, reason = "three gradients of five inputs")]
pub fn layer_norm_backward<T: Float>(
    x: &[T],
    g: &[T],
    width: usize,
    mean: &[T],
    rstd: &[T],
    scale: Option<&[T]>,
    dx: &mut [T],
    dscale: Option<&mut [T]>,
    dshift: Option<&mut [T]>,
) {
    let rows = mean.len();
    let length = elements("layer_norm_backward", [rows, width]);
    assert_eq!((x.len(), g.len()), (length, length), "layer_norm_backward: lengths");
    assert_eq!((dx.len(), rstd.len()), (x.len(), rows), "layer_norm_backward: lengths");
    check_parameters("layer_norm_backward", width, scale, None);
    parallel::rows(
        dx,
        width,
        4 * width,
        #[inline(always)]
        |r, dx| {
            let (x, g) = (&x[r * width..(r + 1) * width], &g[r * width..(r + 1) * width]);
            let (mean, rstd, m) = (mean[r], rstd[r], T::of(width as f64));
            dx.copy_from_slice(g);
            if let Some(scale) = scale {
                dx.iter_mut().zip(scale).for_each(|(dx, &scale)| *dx *= scale);
            }
            let average = sum_lanes(dx) / m;
            let along = lanes2(dx, x, |g, x| g * (x - mean) * rstd) / m;
            for (dx, &x) in dx.iter_mut().zip(x) {
                *dx = rstd * (*dx - average - (x - mean) * rstd * along);
            }
        },
    );
    if let Some(dscale) = dscale {
        assert_eq!(dscale.len(), width, "layer_norm_backward: dscale");
        in_row_blocks(
            rows,
            width,
            dscale,
            #[inline(always)]
            |from, to, sum| {
                sum.fill(T::ZERO);
                for r in from..to {
                    let (x, g) = (&x[r * width..(r + 1) * width], &g[r * width..(r + 1) * width]);
                    let (mean, rstd) = (mean[r], rstd[r]);
                    for ((sum, &x), &g) in sum.iter_mut().zip(x).zip(g) {
                        *sum += g * (x - mean) * rstd;
                    }
                }
            },
        );
    }
    if let Some(dshift) = dshift {
        sum_axis(g, 1, rows, width, dshift);
    }
}

/// x̂ = (x − mean) · rstd along rows of `width`.
///
/// # Example
/// ```
/// let mut out = [0.0; 2];
/// alcyon_kernels::norm::normalized_rows(&[1.0, 5.0], 2, &[3.0], &[0.5], &mut out);
/// assert_eq!(out, [-1.0, 1.0]);
/// ```
pub fn normalized_rows<T: Float>(x: &[T], width: usize, mean: &[T], rstd: &[T], out: &mut [T]) {
    let length = elements("normalized_rows", [mean.len(), width]);
    assert_eq!((x.len(), out.len()), (length, length), "normalized_rows: lengths");
    assert_eq!(mean.len(), rstd.len(), "normalized_rows: one mean and rstd per row");
    parallel::rows(
        out,
        width,
        width,
        #[inline(always)]
        |r, out| {
            let (mean, rstd) = (mean[r], rstd[r]);
            for (out, &x) in out.iter_mut().zip(&x[r * width..(r + 1) * width]) {
                *out = (x - mean) * rstd;
            }
        },
    );
}

fn check_layer_norm<T>(
    width: usize,
    x: &[T],
    (scale, shift): Affine<'_, T>,
    y: &[T],
    (mean, rstd): (&[T], &[T]),
) {
    let length = elements("layer_norm", [mean.len(), width]);
    assert_eq!((x.len(), y.len()), (length, length), "layer_norm: lengths");
    assert_eq!(mean.len(), rstd.len(), "layer_norm: one mean and rstd per row");
    check_parameters("layer_norm", width, scale, shift);
}

fn check_parameters<T>(kernel: &str, width: usize, scale: Option<&[T]>, shift: Option<&[T]>) {
    for parameter in [scale, shift].into_iter().flatten() {
        assert_eq!(parameter.len(), width, "{kernel}: length of scale or shift");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, finite_differences, inner_product, noise, unwritten};

    const EPS: f64 = 1e-5;

    fn layer(x: &[f64], width: usize, scale: &[f64], shift: &[f64]) -> [Vec<f64>; 3] {
        let rows = x.len() / width;
        let mut out = [unwritten(x.len()), unwritten(rows), unwritten(rows)];
        let [y, mean, rstd] = &mut out;
        layer_norm(x, width, EPS, Some(scale), Some(shift), y, mean, rstd);
        out
    }

    #[test]
    fn normalised_rows_have_mean_zero_and_variance_one() {
        for width in 2..12 {
            let x: Vec<f64> = noise::<f64>(4 * width, 1).iter().map(|x| 1e4 + x).collect();
            let (ones, zeros) = (vec![1.0; width], vec![0.0; width]);
            let [y, mean, rstd] = layer(&x, width, &ones, &zeros);
            for ((y, x), rstd) in y.chunks(width).zip(x.chunks(width)).zip(&rstd) {
                let m = x.iter().sum::<f64>() / width as f64;
                let variance = x.iter().map(|x| (x - m).powi(2)).sum::<f64>() / width as f64;
                assert!(y.iter().sum::<f64>().abs() < 1e-7);
                assert!((rstd - 1.0 / (variance + EPS).sqrt()).abs() < 1e-7 * rstd);
            }
            let mut again = unwritten(x.len());
            normalized_rows(&x, width, &mean, &rstd, &mut again);
            assert_close(&again, &y, 1e-14);
        }
    }

    #[test]
    fn layer_norm_gradients_agree_with_finite_differences() {
        let width = 5;
        let (x, g) = (noise::<f64>(15, 1), noise::<f64>(15, 2));
        let (scale, shift) = (noise::<f64>(width, 3), noise::<f64>(width, 4));
        let [_, mean, rstd] = layer(&x, width, &scale, &shift);
        let [mut dx, mut dscale, mut dshift] = [15, width, width].map(unwritten);
        layer_norm_backward(
            &x,
            &g,
            width,
            &mean,
            &rstd,
            Some(&scale),
            &mut dx,
            Some(&mut dscale),
            Some(&mut dshift),
        );
        let loss = |x: &[f64], scale: &[f64], shift: &[f64]| {
            inner_product(&layer(x, width, scale, shift)[0], &g)
        };
        assert_close(&dx, &finite_differences(&x, |x| loss(x, &scale, &shift)), 1e-8);
        assert_close(&dscale, &finite_differences(&scale, |s| loss(&x, s, &shift)), 1e-8);
        assert_close(&dshift, &finite_differences(&shift, |s| loss(&x, &scale, s)), 1e-8);
    }
}
