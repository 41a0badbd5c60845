//! RMS norm: y = scale ∘ x · rstd with rstd = 1 / √(mean(x²) + ε), along rows. Layer norm without the
//! mean. Zhang & Sennrich 2019.
//!
//! With x̂ = x · rstd and ĝ = g ∘ scale:   dx = rstd (ĝ − x̂ · mean(ĝ ∘ x̂)),   dscale = Σ g ∘ x̂.

use crate::float::Float;
use crate::parallel;
use crate::reduce::{dot_lanes, in_row_blocks};
use crate::sizes::elements;

/// y = scale ∘ x · rstd along rows; writes each row's rstd.
///
/// # Shape
/// x, y: \[R, width\] · scale: \[width\] · rstd: \[R\]
///
/// # Example
/// ```
/// let (mut y, mut rstd) = ([0.0; 2], [0.0]);
/// alcyon_kernels::rms_norm::rms_norm(&[4.0, -4.0], 2, 0.0, Some(&[5.0, 10.0]), &mut y, &mut rstd);
/// assert_eq!((y, rstd), ([5.0, -10.0], [0.25])); // mean square 16
/// ```
pub fn rms_norm<T: Float>(
    x: &[T],
    width: usize,
    eps: T,
    scale: Option<&[T]>,
    y: &mut [T],
    rstd: &mut [T],
) {
    let length = elements("rms_norm", [rstd.len(), width]);
    assert_eq!((x.len(), y.len()), (length, length), "rms_norm: lengths");
    assert!(scale.is_none_or(|scale| scale.len() == width), "rms_norm: length of scale");
    parallel::rows2((y, width), (rstd, 1), 2 * width, |r, y, rstd| {
        let x = &x[r * width..(r + 1) * width];
        rstd[0] = T::ONE / (dot_lanes(x, x) / T::of(width as f64) + eps).sqrt();
        for (y, &x) in y.iter_mut().zip(x) {
            *y = x * rstd[0];
        }
        if let Some(scale) = scale {
            y.iter_mut().zip(scale).for_each(|(y, &scale)| *y *= scale);
        }
    });
}

/// The gradients of [`rms_norm()`] (formula above).
///
/// # Shape
/// x, g, dx: \[R, width\] · rstd: \[R\] · scale, dscale: \[width\]
///
/// # Example
/// ```
/// use alcyon_kernels::rms_norm::rms_norm_backward;
/// // One number normalises to its sign, whatever it is: nothing flows back.
/// let (mut dx, mut dscale) = ([9.0], [9.0]);
/// rms_norm_backward(&[-4.0], &[3.0], 1, &[0.25], Some(&[2.0]), &mut dx, Some(&mut dscale));
/// assert_eq!((dx, dscale), ([0.0], [-3.0]));
/// ```
pub fn rms_norm_backward<T: Float>(
    x: &[T],
    g: &[T],
    width: usize,
    rstd: &[T],
    scale: Option<&[T]>,
    dx: &mut [T],
    dscale: Option<&mut [T]>,
) {
    let rows = rstd.len();
    let length = elements("rms_norm_backward", [rows, width]);
    assert_eq!((x.len(), g.len()), (length, length), "rms_norm_backward: lengths");
    assert_eq!(dx.len(), x.len(), "rms_norm_backward: length of dx");
    assert!(scale.is_none_or(|scale| scale.len() == width), "rms_norm_backward: length of scale");
    parallel::rows(dx, width, 3 * width, |r, dx| {
        let (x, g) = (&x[r * width..(r + 1) * width], &g[r * width..(r + 1) * width]);
        dx.copy_from_slice(g);
        if let Some(scale) = scale {
            dx.iter_mut().zip(scale).for_each(|(dx, &scale)| *dx *= scale);
        }
        let along = dot_lanes(dx, x) * rstd[r] / T::of(width as f64);
        for (dx, &x) in dx.iter_mut().zip(x) {
            *dx = rstd[r] * (*dx - x * rstd[r] * along);
        }
    });
    if let Some(dscale) = dscale {
        assert_eq!(dscale.len(), width, "rms_norm_backward: dscale");
        in_row_blocks(rows, width, dscale, |from, to, sum| {
            sum.fill(T::ZERO);
            for r in from..to {
                let (x, g) = (&x[r * width..(r + 1) * width], &g[r * width..(r + 1) * width]);
                for ((sum, &x), &g) in sum.iter_mut().zip(x).zip(g) {
                    *sum += g * x * rstd[r];
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{
        assert_close, assert_same_bits_for_any_number_of_threads, finite_differences,
        inner_product, noise, unwritten,
    };

    const EPS: f64 = 1e-3;

    fn forward(x: &[f64], width: usize, scale: &[f64]) -> [Vec<f64>; 2] {
        let mut out = [unwritten(x.len()), unwritten(x.len() / width)];
        let [y, rstd] = &mut out;
        rms_norm(x, width, EPS, Some(scale), y, rstd);
        out
    }

    #[test]
    fn rows_have_mean_square_one() {
        for width in 1..12 {
            let x = noise::<f64>(4 * width, 1);
            let (mut y, mut rstd) = (unwritten(x.len()), unwritten(4));
            rms_norm(&x, width, 0.0, None, &mut y, &mut rstd);
            for row in y.chunks(width) {
                assert!((inner_product(row, row) / width as f64 - 1.0).abs() < 1e-13);
            }
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        for width in [1, 5, 19] {
            let len = 3 * width;
            let (x, g, scale) = (noise::<f64>(len, 1), noise(len, 2), noise::<f64>(width, 3));
            let [_, rstd] = forward(&x, width, &scale);
            let (mut dx, mut dscale) = (unwritten(len), unwritten(width));
            rms_norm_backward(&x, &g, width, &rstd, Some(&scale), &mut dx, Some(&mut dscale));
            let loss = |x: &[f64], scale: &[f64]| inner_product(&forward(x, width, scale)[0], &g);
            assert_close(&dx, &finite_differences(&x, |x| loss(x, &scale)), 1e-7);
            assert_close(&dscale, &finite_differences(&scale, |s| loss(&x, s)), 1e-8);
        }
    }

    #[test]
    fn threads_do_not_change_the_gradient_of_the_scale() {
        let (rows, width) = (5000, 48);
        let (x, g) = (noise::<f32>(rows * width, 1), noise::<f32>(rows * width, 2));
        let rstd = noise::<f32>(rows, 3);
        assert_same_bits_for_any_number_of_threads(|| {
            let (mut dx, mut dscale) = (unwritten(rows * width), unwritten(width));
            rms_norm_backward(&x, &g, width, &rstd, None, &mut dx, Some(&mut dscale));
            dx.append(&mut dscale);
            dx
        });
    }
}
