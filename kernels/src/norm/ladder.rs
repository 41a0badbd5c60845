//! The ladder to [`layer_norm()`](super::layer_norm): each rung does one thing more than the one before.
//!
//! | rung          | changes                                                               | gain |
//! |---------------|-----------------------------------------------------------------------|------|
//! | [`fn@reference`] | each formula is a pass over the whole matrix, as separate ops would do it | 1 |
//! | [`lanes`]     | 16 sums side by side: no addition waits for the last                  | 2.3 |
//! | [`fused`]     | all formulas of a row while it is in the cache                        | 2.8 |
//! | [`wide`]      | the loop compiled for the vectors of this machine                     | 4.7 |
//! | [`layer_norm()`](super::layer_norm) | rows shared out among threads                   | 7.1 |
//!
//! The gain over the first rung: `kernel/layer_norm` of `benches/kernels.rs`, 4096 × 256 f32, the
//! median of three runs on an EPYC 7003 (AVX2), two cores, 2026-11-22.

use super::{Affine, check_layer_norm, normalise_row};
use crate::float::Float;
use crate::reduce::{dot_lanes, sum_lanes};
use crate::vector::vectorized;

/// [`layer_norm()`](super::layer_norm) by the definition, one formula after the other.
///
/// # Shape
/// As [`layer_norm()`](super::layer_norm), in all rungs.
///
/// # Example
/// ```
/// let (mut y, mut mean, mut rstd) = ([0.0; 2], [0.0], [0.0]);
/// alcyon_kernels::norm::ladder::reference(
///     &[1.0, 5.0], 2, 0.0, None, None, &mut y, &mut mean, &mut rstd);
/// assert_eq!((y, mean, rstd), ([-1.0, 1.0], [3.0], [0.5]));
/// ```
pub fn reference<T: Float>(
    x: &[T],
    width: usize,
    eps: T,
    scale: Option<&[T]>,
    shift: Option<&[T]>,
    y: &mut [T],
    mean: &mut [T],
    rstd: &mut [T],
) {
    let sum = |x: &[T]| x.iter().copied().sum();
    let squares = |x: &[T]| x.iter().map(|&x| x * x).sum();
    passes((x, width), eps, (scale, shift), y, (mean, rstd), sum, squares);
}

/// [`fn@reference`] with the sums taken in lanes.
pub fn lanes<T: Float>(
    x: &[T],
    width: usize,
    eps: T,
    scale: Option<&[T]>,
    shift: Option<&[T]>,
    y: &mut [T],
    mean: &mut [T],
    rstd: &mut [T],
) {
    passes((x, width), eps, (scale, shift), y, (mean, rstd), sum_lanes, |x| dot_lanes(x, x));
}

fn passes<T: Float>(
    (x, width): (&[T], usize),
    eps: T,
    (scale, shift): Affine<'_, T>,
    y: &mut [T],
    (mean, rstd): (&mut [T], &mut [T]),
    sum: impl Fn(&[T]) -> T,
    squares: impl Fn(&[T]) -> T,
) {
    check_layer_norm(width, x, (scale, shift), y, (mean, rstd));
    let (m, width) = (T::of(width as f64), width.max(1));
    // PASS 1: μ = mean(x).
    for (mean, x) in mean.iter_mut().zip(x.chunks_exact(width)) {
        *mean = sum(x) / m;
    }
    // PASS 2: x − μ.
    for ((y, x), &mean) in y.chunks_exact_mut(width).zip(x.chunks_exact(width)).zip(&*mean) {
        y.iter_mut().zip(x).for_each(|(y, &x)| *y = x - mean);
    }
    // PASS 3: 1 / √(mean((x − μ)²) + ε).
    for (rstd, y) in rstd.iter_mut().zip(y.chunks_exact(width)) {
        *rstd = T::ONE / (squares(y) / m + eps).sqrt();
    }
    // PASS 4: x̂.
    for (y, &rstd) in y.chunks_exact_mut(width).zip(&*rstd) {
        y.iter_mut().for_each(|y| *y *= rstd);
    }
    // PASSES 5 and 6: scale ∘ x̂, + shift.
    if let Some(scale) = scale {
        for y in y.chunks_exact_mut(width) {
            y.iter_mut().zip(scale).for_each(|(y, &scale)| *y *= scale);
        }
    }
    if let Some(shift) = shift {
        for y in y.chunks_exact_mut(width) {
            y.iter_mut().zip(shift).for_each(|(y, &shift)| *y += shift);
        }
    }
}

/// [`lanes()`], row by row.
pub fn fused<T: Float>(
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
    each_row((x, width), eps, (scale, shift), y, (mean, rstd));
}

/// [`fused`] with the widest vectors of this machine.
pub fn wide<T: Float>(
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
    vectorized(
        #[inline(always)]
        || each_row((x, width), eps, (scale, shift), y, (mean, rstd)),
    );
}

#[inline(always)]
fn each_row<T: Float>(
    (x, width): (&[T], usize),
    eps: T,
    affine: Affine<'_, T>,
    y: &mut [T],
    (mean, rstd): (&mut [T], &mut [T]),
) {
    let rows = x.chunks_exact(width.max(1)).zip(y.chunks_exact_mut(width.max(1)));
    for ((x, y), (mean, rstd)) in rows.zip(mean.iter_mut().zip(rstd)) {
        (*mean, *rstd) = normalise_row(x, eps, affine, y);
    }
}

#[cfg(test)]
mod tests {
    use super::super::layer_norm;
    use super::*;
    use crate::oracle::{assert_close, noise, unwritten};
    use proptest::prelude::*;

    fn agrees<T: Float>(count: usize, width: usize, with: (bool, bool), tolerance: f64) {
        let x = noise::<T>(count * width, 1);
        let (scale, shift) = (noise::<T>(width, 2), noise::<T>(width, 3));
        let (scale, shift) = (with.0.then_some(&scale[..]), with.1.then_some(&shift[..]));
        let outputs = || [unwritten(x.len()), unwritten(count), unwritten(count)];
        let mut want = outputs();
        let [y, mean, rstd] = &mut want;
        let eps = T::of(1e-2);
        reference(&x, width, eps, scale, shift, y, mean, rstd);
        for rung in [lanes, fused, wide, layer_norm] {
            let mut got = outputs();
            let [y, mean, rstd] = &mut got;
            rung(&x, width, eps, scale, shift, y, mean, rstd);
            for (got, want) in got.iter().zip(&want) {
                assert_close(got, want, tolerance);
            }
        }
    }

    proptest! {
        #[test]
        fn every_rung_agrees_with_the_reference(
            count in 0_usize..5, width in 1_usize..70, scale: bool, shift: bool,
        ) {
            agrees::<f64>(count, width, (scale, shift), 1e-13);
            agrees::<f32>(count, width, (scale, shift), 1e-5);
        }
    }
}
