//! Group norm: the channels of an example in groups, each normalised by itself. Wu & He 2018.
//!
//! In memory a group is a row of m = C/groups · S neighbours, so x̂ is layer norm's over such rows;
//! scale and shift belong to channels. With x̂ = (x − mean) · rstd:
//!
//! y = scale ∘ x̂ + shift,   dscale\[c\] = Σ over n, s of g x̂,   dshift\[c\] = Σ over n, s of g,
//! dx = rstd (scale g − mean(scale g) − x̂ mean(scale g x̂)), the means over the group.

use crate::float::Float;
use crate::norm::moments;
use crate::parallel;
use crate::pool::Buffer;
use crate::reduce::{lanes2, sum_axis, sum_lanes};
use crate::sizes::elements;

/// The sizes of a group norm: x is \[n, c, s\], its c channels in `groups` groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Groups {
    /// Examples.
    pub n: usize,
    /// Channels, a multiple of `groups`.
    pub c: usize,
    /// Positions.
    pub s: usize,
    /// Groups, at least 1.
    pub groups: usize,
}

impl Groups {
    /// Numbers in a group.
    const fn width(self) -> usize {
        self.c / self.groups * self.s
    }

    fn check(self, kernel: &str, lengths: &[usize], moments: &[usize], channels: &[Option<usize>]) {
        let Self { n, c, s, groups } = self;
        assert!(
            groups > 0 && c.is_multiple_of(groups),
            "{kernel}: {groups} groups of {c} channels"
        );
        let (length, all) = (elements(kernel, [n, c, s]), elements(kernel, [n, groups]));
        assert!(lengths.iter().all(|&len| len == length), "{kernel}: lengths");
        assert!(moments.iter().all(|&len| len == all), "{kernel}: one moment per group");
        assert!(channels.iter().flatten().all(|&len| len == c), "{kernel}: one scale per channel");
    }
}

/// y = scale ∘ (x − mean) · rstd + shift; writes each group's mean and rstd = 1/√(σ² + ε).
///
/// # Shape
/// x, y: \[n, c, s\] · mean, rstd: \[n, groups\] · scale, shift: \[c\]
///
/// # Example
/// ```
/// use alcyon_kernels::group_norm::{Groups, group_norm};
/// let sizes = Groups { n: 1, c: 4, s: 1, groups: 2 };
/// let (mut y, mut mean, mut rstd) = ([0.0; 4], [0.0; 2], [0.0; 2]);
/// group_norm(&sizes, &[1.0, 5.0, 7.0, 9.0], 0.0, None, None, &mut y, &mut mean, &mut rstd);
/// assert_eq!((y, mean), ([-1.0, 1.0, -1.0, 1.0], [3.0, 8.0]));
/// ```
pub fn group_norm<T: Float>(
    sizes: &Groups,
    x: &[T],
    eps: T,
    scale: Option<&[T]>,
    shift: Option<&[T]>,
    y: &mut [T],
    mean: &mut [T],
    rstd: &mut [T],
) {
    let channels = [scale.map(<[T]>::len), shift.map(<[T]>::len)];
    sizes.check("group_norm", &[x.len(), y.len()], &[mean.len(), rstd.len()], &channels);
    let (width, s) = (sizes.width(), sizes.s.max(1));
    parallel::rows_and_two((y, width), mean, rstd, 4 * width, |r, y, mean, rstd| {
        let x = &x[r * width..(r + 1) * width];
        let (centre, variance) = moments(std::iter::once(x), width);
        (*mean, *rstd) = (centre, T::ONE / (variance + eps).sqrt());
        let first = r % sizes.groups * (sizes.c / sizes.groups);
        for (k, (y, x)) in y.chunks_mut(s).zip(x.chunks(s)).enumerate() {
            let scale = scale.map_or(T::ONE, |scale| scale[first + k]);
            let shift = shift.map_or(T::ZERO, |shift| shift[first + k]);
            for (y, &x) in y.iter_mut().zip(x) {
                *y = (x - *mean) * *rstd * scale + shift;
            }
        }
    });
}

/// The gradients of [`group_norm()`] (formula above).
///
/// # Shape
/// x, g, dx: \[n, c, s\] · mean, rstd: \[n, groups\] · scale, dscale, dshift: \[c\]
///
/// # Example
/// ```
/// use alcyon_kernels::group_norm::{Groups, group_norm_backward};
/// // Two numbers normalise to ±1 whatever they are, so nothing flows back.
/// let sizes = Groups { n: 1, c: 2, s: 1, groups: 1 };
/// let (mut dx, mut dscale, mut dshift) = ([9.0; 2], [9.0; 2], [9.0; 2]);
/// group_norm_backward(
///     &sizes, &[1.0, 5.0], &[2.0, 7.0], &[3.0], &[0.5], None, &mut dx, &mut dscale, &mut dshift);
/// assert_eq!((dx, dscale, dshift), ([0.0, 0.0], [-2.0, 7.0], [2.0, 7.0]));
/// ```
#[expect(clippy::too_many_arguments, reason = "three gradients of five inputs")]
pub fn group_norm_backward<T: Float>(
    sizes: &Groups,
    x: &[T],
    g: &[T],
    mean: &[T],
    rstd: &[T],
    scale: Option<&[T]>,
    dx: &mut [T],
    dscale: &mut [T],
    dshift: &mut [T],
) {
    let channels = [scale.map(<[T]>::len), Some(dscale.len()), Some(dshift.len())];
    let lengths = [x.len(), g.len(), dx.len()];
    sizes.check("group_norm_backward", &lengths, &[mean.len(), rstd.len()], &channels);
    let Groups { n, c, s, groups } = *sizes;
    let (per_group, width) = (c / groups, sizes.width());

    // LOOP 1: Σ g x̂ and Σ g over the positions of every channel of every example.
    let mut along = Buffer::<T>::unspecified(n * c);
    let mut total = Buffer::<T>::unspecified(n * c);
    parallel::rows2((&mut along, 1), (&mut total, 1), 2 * s, |k, along, total| {
        let (x, g) = (&x[k * s..(k + 1) * s], &g[k * s..(k + 1) * s]);
        let (mean, rstd) = (mean[k / per_group], rstd[k / per_group]);
        along[0] = lanes2(g, x, |g, x| g * (x - mean) * rstd);
        total[0] = sum_lanes(g);
    });

    // LOOP 2: a group's means are its channels' sums, weighted by their scales.
    parallel::rows(dx, width, 3 * width, |r, dx| {
        let (mean, rstd, m) = (mean[r], rstd[r], T::of(width as f64));
        let first = r % groups * per_group;
        let scale = |k: usize| scale.map_or(T::ONE, |scale| scale[first + k]);
        let average = |sums: &[T]| {
            let sums = &sums[r * per_group..(r + 1) * per_group];
            sums.iter().enumerate().fold(T::ZERO, |sum, (k, &x)| sum + scale(k) * x) / m
        };
        let (total, along) = (average(&total), average(&along));
        let (x, g) = (&x[r * width..(r + 1) * width], &g[r * width..(r + 1) * width]);
        for (k, dx) in dx.chunks_mut(s.max(1)).enumerate() {
            let (x, g) = (&x[k * s..(k + 1) * s], &g[k * s..(k + 1) * s]);
            for ((dx, &x), &g) in dx.iter_mut().zip(x).zip(g) {
                *dx = rstd * (scale(k) * g - total - (x - mean) * rstd * along);
            }
        }
    });

    // LOOP 3: the parameters' gradients add the examples.
    sum_axis(&along, 1, n, c, dscale);
    sum_axis(&total, 1, n, c, dshift);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::norm::layer_norm;
    use crate::oracle::{
        assert_close, assert_same_bits_for_any_number_of_threads, finite_differences,
        inner_product, noise, unwritten,
    };

    const EPS: f64 = 1e-3;
    const SIZES: [(usize, usize, usize, usize); 5] =
        [(2, 4, 3, 2), (1, 6, 1, 3), (3, 2, 5, 1), (2, 3, 4, 3), (2, 4, 1, 1)];

    fn forward(sizes: &Groups, x: &[f64], scale: &[f64], shift: &[f64]) -> [Vec<f64>; 3] {
        let rows = sizes.n * sizes.groups;
        let mut out = [unwritten(x.len()), unwritten(rows), unwritten(rows)];
        let [y, mean, rstd] = &mut out;
        group_norm(sizes, x, EPS, Some(scale), Some(shift), y, mean, rstd);
        out
    }

    #[test]
    fn without_scale_it_is_layer_norm_of_every_group() {
        for (n, c, s, groups) in SIZES {
            let sizes = Groups { n, c, s, groups };
            let x = noise::<f64>(n * c * s, 1);
            let [got, mean, rstd] = forward(&sizes, &x, &vec![1.0; c], &vec![0.0; c]);
            let mut want = [unwritten(x.len()), unwritten(mean.len()), unwritten(rstd.len())];
            let [y, m, r] = &mut want;
            layer_norm(&x, sizes.width(), EPS, None, None, y, m, r);
            for (got, want) in [got, mean, rstd].iter().zip(&want) {
                assert_close(got, want, 1e-13);
            }
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        for (n, c, s, groups) in SIZES {
            let sizes = Groups { n, c, s, groups };
            let len = n * c * s;
            let (x, g) = (noise::<f64>(len, 1), noise::<f64>(len, 2));
            let (scale, shift) = (noise::<f64>(c, 3), noise::<f64>(c, 4));
            let [_, mean, rstd] = forward(&sizes, &x, &scale, &shift);
            let [mut dx, mut dscale, mut dshift] = [len, c, c].map(unwritten);
            let outputs = (&mut dx[..], &mut dscale[..], &mut dshift[..]);
            group_norm_backward(
                &sizes,
                &x,
                &g,
                &mean,
                &rstd,
                Some(&scale),
                outputs.0,
                outputs.1,
                outputs.2,
            );
            let loss = |x: &[f64], scale: &[f64], shift: &[f64]| {
                inner_product(&forward(&sizes, x, scale, shift)[0], &g)
            };
            assert_close(&dx, &finite_differences(&x, |x| loss(x, &scale, &shift)), 1e-7);
            assert_close(&dscale, &finite_differences(&scale, |s| loss(&x, s, &shift)), 1e-8);
            assert_close(&dshift, &finite_differences(&shift, |s| loss(&x, &scale, s)), 1e-8);
        }
    }

    #[test]
    fn threads_do_not_change_any_gradient() {
        let sizes = Groups { n: 64, c: 32, s: 81, groups: 8 };
        let len = sizes.n * sizes.c * sizes.s;
        let (x, g) = (noise::<f32>(len, 1), noise::<f32>(len, 2));
        let (mean, rstd) = (noise::<f32>(64 * 8, 3), noise::<f32>(64 * 8, 4));
        assert_same_bits_for_any_number_of_threads(|| {
            let mut out = unwritten(len + 2 * 32);
            let (dx, rest) = out.split_at_mut(len);
            let (dscale, dshift) = rest.split_at_mut(32);
            group_norm_backward(&sizes, &x, &g, &mean, &rstd, None, dx, dscale, dshift);
            out
        });
    }
}
