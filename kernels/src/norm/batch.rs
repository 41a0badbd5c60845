//! Batch normalisation over the channels of \[N, C, S\]. Formulas: [`norm`](super).

use super::check_parameters;
use super::moments::{corrected, moments};
use crate::float::Float;
use crate::parallel;
use crate::pool::Buffer;
use crate::reduce::{channel_sums, in_row_blocks, lanes2, sum_lanes};
use crate::sizes::elements;

/// The mean and the biased variance of each channel.
///
/// # Shape
/// x: \[n, c, s\] · mean, variance: \[c\]
///
/// # Example
/// ```
/// let (mut mean, mut variance) = ([0.0; 2], [0.0; 2]);
/// let x = [1.0, 3.0, 5.0, 5.0]; // one example, two channels
/// alcyon_kernels::norm::batch_moments(&x, 1, 2, 2, &mut mean, &mut variance);
/// assert_eq!((mean, variance), ([2.0, 5.0], [1.0, 0.0]));
/// ```
pub fn batch_moments<T: Float>(
    x: &[T],
    n: usize,
    c: usize,
    s: usize,
    mean: &mut [T],
    variance: &mut [T],
) {
    assert_eq!(x.len(), elements("batch_moments", [n, c, s]), "batch_moments: input length");
    assert_eq!((mean.len(), variance.len()), (c, c), "batch_moments: output lengths");
    if s > 1 {
        let planes = |k: usize| (0..n).map(move |i| &x[(i * c + k) * s..][..s]);
        return parallel::rows2((mean, 1), (variance, 1), 3 * n * s, |k, mean, variance| {
            (mean[0], variance[0]) = moments(planes(k), n * s);
        });
    }
    // Channels are neighbours: add rows. First a number near the mean, then the differences from it.
    let m = T::of(n as f64);
    channel_sums(x, x, (n, c, s), mean, |_, x, _| x);
    mean.iter_mut().for_each(|mean| *mean /= m);
    let mut sums = Buffer::<f64>::unspecified(2 * c);
    in_row_blocks(
        n,
        2 * c,
        &mut sums,
        #[inline(always)]
        |from, to, sums| {
            sums.fill(0.0);
            let (sums, squares) = sums.split_at_mut(c);
            for row in x[from * c..to * c].chunks_exact(c.max(1)) {
                let at = sums.iter_mut().zip(&mut *squares);
                for ((sum, square), (&x, &near)) in at.zip(row.iter().zip(&*mean)) {
                    let d = x - near;
                    *sum += d.to_f64();
                    *square += (d * d).to_f64();
                }
            }
        },
    );
    let (sums, squares) = sums.split_at(c);
    for (k, (mean, variance)) in mean.iter_mut().zip(variance).enumerate() {
        (*mean, *variance) = corrected(*mean, sums[k], squares[k], n);
    }
}

/// Batch norm in training mode: the moments of each channel, then y = scale ∘ x̂ + shift. A channel is
/// normalised while it is still in the cache from its moments.
///
/// # Shape
/// x, y: \[n, c, s\] · all others: \[c\]
///
/// # Example
/// ```
/// let (mut y, mut moments) = ([0.0; 2], [[0.0]; 3]);
/// let [mean, rstd, variance] = &mut moments;
/// alcyon_kernels::norm::batch_norm(
///     &[1.0, 5.0], 1, 1, 2, 0.0, &[1.0], &[0.5], &mut y, [mean, rstd, variance]);
/// assert_eq!((y, moments), ([-0.5, 1.5], [[3.0], [0.5], [4.0]]));
/// ```
#[expect(clippy::too_many_arguments, reason = "three sizes, three inputs, two kinds of outputs")]
pub fn batch_norm<T: Float>(
    x: &[T],
    n: usize,
    c: usize,
    s: usize,
    eps: T,
    scale: &[T],
    shift: &[T],
    y: &mut [T],
    [mean, rstd, variance]: [&mut [T]; 3],
) {
    let length = elements("batch_norm", [n, c, s]);
    assert_eq!((x.len(), y.len()), (length, length), "batch_norm: lengths");
    check_parameters("batch_norm", c, Some(scale), Some(shift));
    let reciprocal = |variance: T| T::ONE / (variance + eps).sqrt();
    if s == 1 {
        batch_moments(x, n, c, s, mean, variance);
        rstd.iter_mut().zip(&*variance).for_each(|(rstd, &variance)| *rstd = reciprocal(variance));
        return batch_norm_apply(x, n, c, s, mean, rstd, Some(scale), Some(shift), y);
    }
    let outputs = mean.iter_mut().zip(rstd).zip(variance);
    let channels = planes_by_channel(y, c, s).into_iter().zip(outputs).collect();
    parallel::items(channels, 4 * n * s, |k, (y, ((mean, rstd), variance))| {
        let planes = || (0..n).map(|i| &x[(i * c + k) * s..][..s]);
        (*mean, *variance) = moments(planes(), n * s);
        *rstd = reciprocal(*variance);
        let (scale, shift) = (scale[k], shift[k]);
        for (y, x) in y.into_iter().zip(planes()) {
            for (y, &x) in y.iter_mut().zip(x) {
                *y = (x - *mean) * *rstd * scale + shift;
            }
        }
    });
}

/// y = scale ∘ (x − mean) · rstd + shift, channel by channel.
///
/// # Shape
/// x, y: \[n, c, s\] · mean, rstd, scale, shift: \[c\]
///
/// # Example
/// ```
/// let mut y = [0.0; 2];
/// alcyon_kernels::norm::batch_norm_apply(
///     &[3.0, 4.0], 2, 1, 1, &[3.0], &[2.0], Some(&[5.0]), Some(&[1.0]), &mut y);
/// assert_eq!(y, [1.0, 11.0]);
/// ```
#[expect(clippy::too_many_arguments, reason = "three sizes and four vectors")]
pub fn batch_norm_apply<T: Float>(
    x: &[T],
    n: usize,
    c: usize,
    s: usize,
    mean: &[T],
    rstd: &[T],
    scale: Option<&[T]>,
    shift: Option<&[T]>,
    y: &mut [T],
) {
    let length = elements("batch_norm_apply", [n, c, s]);
    assert_eq!((x.len(), y.len()), (length, length), "batch_norm_apply: lengths");
    assert_eq!((mean.len(), rstd.len()), (c, c), "batch_norm_apply: moments");
    check_parameters("batch_norm_apply", c, scale, shift);
    by_channel(x, x, (c, s), y, |k, x, _| {
        let scale = scale.map_or(T::ONE, |scale| scale[k]);
        let shift = shift.map_or(T::ZERO, |shift| shift[k]);
        (x - mean[k]) * rstd[k] * scale + shift
    });
}

/// x̂ = (x − mean) · rstd, channel by channel.
///
/// # Shape
/// x, out: \[n, c, s\] · mean, rstd: \[c\]
///
/// # Example
/// ```
/// let mut out = [0.0; 2];
/// alcyon_kernels::norm::normalized(&[1.0, 5.0], 1, 1, 2, &[3.0], &[0.5], &mut out);
/// assert_eq!(out, [-1.0, 1.0]);
/// ```
pub fn normalized<T: Float>(
    x: &[T],
    n: usize,
    c: usize,
    s: usize,
    mean: &[T],
    rstd: &[T],
    out: &mut [T],
) {
    batch_norm_apply(x, n, c, s, mean, rstd, None, None, out);
}

/// The gradients of batch norm in training mode, where the moments depend on x (formula above).
///
/// # Shape
/// x, g, dx: \[n, c, s\] · mean, rstd, scale, dscale, dshift: \[c\]
///
/// # Example
/// ```
/// use alcyon_kernels::norm::batch_norm_backward;
/// // Two numbers normalise to ±1 whatever they are, so nothing flows back.
/// let (mut dx, mut dscale, mut dshift) = ([9.0; 2], [0.0], [0.0]);
/// batch_norm_backward(
///     &[1.0, 5.0], &[2.0, 7.0], 2, 1, 1, &[3.0], &[0.5], None, &mut dx, &mut dscale, &mut dshift);
/// assert_eq!((dx, dscale, dshift), ([0.0, 0.0], [5.0], [9.0]));
/// ```
#[expect(clippy::too_many_arguments, reason = "three gradients of six inputs")]
pub fn batch_norm_backward<T: Float>(
    x: &[T],
    g: &[T],
    n: usize,
    c: usize,
    s: usize,
    mean: &[T],
    rstd: &[T],
    scale: Option<&[T]>,
    dx: &mut [T],
    dscale: &mut [T],
    dshift: &mut [T],
) {
    let len = elements("batch_norm_backward", [n, c, s]);
    assert_eq!((x.len(), g.len(), dx.len()), (len, len, len), "batch_norm_backward: lengths");
    assert_eq!((mean.len(), rstd.len()), (c, c), "batch_norm_backward: moments");
    assert_eq!((dscale.len(), dshift.len()), (c, c), "batch_norm_backward: gradients");
    check_parameters("batch_norm_backward", c, scale, None);
    let m = T::of((n * s) as f64);
    if s == 1 {
        channel_sums(x, g, (n, c, s), dscale, |k, x, g| g * (x - mean[k]) * rstd[k]);
        channel_sums(g, g, (n, c, s), dshift, |_, g, _| g);
        return by_channel(x, g, (c, s), dx, |k, x, g| {
            let scale = scale.map_or(T::ONE, |scale| scale[k]);
            let normal = (x - mean[k]) * rstd[k];
            scale * rstd[k] * (g - dshift[k] / m - normal * (dscale[k] / m))
        });
    }
    let sums = dscale.iter_mut().zip(dshift);
    let channels = planes_by_channel(dx, c, s).into_iter().zip(sums).collect();
    parallel::items(channels, 4 * n * s, |k, (dx, (dscale, dshift))| {
        let planes = || {
            let at = |i: usize| (i * c + k) * s..(i * c + k + 1) * s;
            (0..n).map(move |i| (&x[at(i)], &g[at(i)]))
        };
        let (mean, rstd) = (mean[k], rstd[k]);
        let along = |(x, g): (&[T], &[T])| lanes2(x, g, |x, g| g * (x - mean) * rstd).to_f64();
        *dscale = T::of(planes().map(along).sum());
        *dshift = T::of(planes().map(|(_, g)| sum_lanes(g).to_f64()).sum());
        let scale = scale.map_or(T::ONE, |scale| scale[k]) * rstd;
        let (along, average) = (*dscale / m, *dshift / m);
        for (dx, (x, g)) in dx.into_iter().zip(planes()) {
            for (dx, (&x, &g)) in dx.iter_mut().zip(x.iter().zip(g)) {
                *dx = scale * (g - average - (x - mean) * rstd * along);
            }
        }
    });
}

/// The planes of \[n, c, s\], those of one channel together.
fn planes_by_channel<T>(x: &mut [T], c: usize, s: usize) -> Vec<Vec<&mut [T]>> {
    let mut channels: Vec<Vec<&mut [T]>> = Vec::new();
    channels.resize_with(c, Vec::new);
    for image in x.chunks_exact_mut((c * s).max(1)) {
        for (channel, plane) in channels.iter_mut().zip(image.chunks_exact_mut(s)) {
            channel.push(plane);
        }
    }
    channels
}

/// out\[n, k, s\] = f(k, a\[n, k, s\], b\[n, k, s\]).
fn by_channel<T: Float>(
    a: &[T],
    b: &[T],
    (c, s): (usize, usize),
    out: &mut [T],
    f: impl Fn(usize, T, T) -> T + Sync + Send,
) {
    // A row is an example where channels are neighbours, a plane otherwise.
    let width = if s == 1 { c } else { s };
    parallel::rows(out, width, 2 * width, |r, out| {
        let (a, b) = (&a[r * width..(r + 1) * width], &b[r * width..(r + 1) * width]);
        for (i, (out, (&a, &b))) in out.iter_mut().zip(a.iter().zip(b)).enumerate() {
            *out = f(if s == 1 { i } else { r % c }, a, b);
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{
        assert_close, assert_same_bits_for_any_number_of_threads, finite_differences,
        inner_product, noise, unwritten,
    };

    const EPS: f64 = 1e-5;

    fn batch(x: &[f64], (n, c, s): (usize, usize, usize), scale: &[f64]) -> [Vec<f64>; 3] {
        let [mut y, mut mean, mut rstd] = [unwritten(x.len()), unwritten(c), unwritten(c)];
        let mut variance = unwritten(c);
        let moments = [&mut mean[..], &mut rstd, &mut variance];
        batch_norm(x, n, c, s, EPS, scale, &vec![0.0; c], &mut y, moments);
        let [mut again, mut mean2, mut variance2] =
            [unwritten(x.len()), unwritten(c), unwritten(c)];
        batch_moments(x, n, c, s, &mut mean2, &mut variance2);
        batch_norm_apply(x, n, c, s, &mean, &rstd, Some(scale), None, &mut again);
        assert_close(
            &[mean2, variance2, again].concat(),
            &[&mean[..], &variance, &y].concat(),
            1e-14,
        );
        [y, mean, rstd]
    }

    #[test]
    fn batch_norm_gradients_agree_with_finite_differences() {
        for (n, c, s) in [(4, 3, 1), (2, 3, 5), (1, 2, 7), (3, 1, 4)] {
            let len = n * c * s;
            let (x, g, scale) = (noise::<f64>(len, 1), noise::<f64>(len, 2), noise::<f64>(c, 3));
            let [_, mean, rstd] = batch(&x, (n, c, s), &scale);
            let [mut dx, mut dscale, mut dshift] = [len, c, c].map(unwritten);
            batch_norm_backward(
                &x,
                &g,
                n,
                c,
                s,
                &mean,
                &rstd,
                Some(&scale),
                &mut dx,
                &mut dscale,
                &mut dshift,
            );
            let loss = |x: &[f64], scale: &[f64]| inner_product(&batch(x, (n, c, s), scale)[0], &g);
            assert_close(&dx, &finite_differences(&x, |x| loss(x, &scale)), 1e-7);
            assert_close(&dscale, &finite_differences(&scale, |scale| loss(&x, scale)), 1e-7);
            let total: Vec<f64> =
                (0..c).map(|k| (0..len).filter(|i| i / s % c == k).map(|i| g[i]).sum()).collect();
            assert_close(&dshift, &total, 1e-13);
            let mut normal = unwritten(len);
            normalized(&x, n, c, s, &mean, &rstd, &mut normal);
            assert!((0..len).all(|i| {
                let k = i / s % c;
                (normal[i] - (x[i] - mean[k]) * rstd[k]).abs() < 1e-14
            }));
        }
    }

    /// x̂ of f32 numbers around an offset, and by f64.
    #[test]
    fn far_from_zero_batch_norm_is_off_by_no_more_than_its_mean_is_rounded() {
        for (n, c, s) in [(64, 3, 1), (8, 3, 50)] {
            for offset in [1e3_f32, 1e5] {
                let x: Vec<f32> = noise::<f32>(n * c * s, 11).iter().map(|x| offset + x).collect();
                let wide: Vec<f64> = x.iter().map(|&x| f64::from(x)).collect();
                let ones = vec![1.0; c];
                let [want, ..] = batch(&wide, (n, c, s), &ones);
                let mut y = unwritten::<f32>(x.len());
                let (scale, shift) = (vec![1.0_f32; c], vec![0.0; c]);
                let mut of_channels = [(); 3].map(|()| unwritten::<f32>(c));
                let [mean, rstd, variance] = of_channels.each_mut().map(|m| &mut m[..]);
                let eps = EPS as f32;
                batch_norm(&x, n, c, s, eps, &scale, &shift, &mut y, [mean, rstd, variance]);
                let far =
                    y.iter().zip(&want).fold(0.0_f64, |m, (&y, w)| m.max((f64::from(y) - w).abs()));
                // Half a unit in the last place of the mean, and a few of x̂, which is below 4.
                let unit = f64::from(offset * f32::EPSILON / 2.0);
                let deviation =
                    f64::from(of_channels[2].iter().fold(1.0_f32, |m, &v| m.min(v))).sqrt();
                assert!(far <= unit / deviation + 4e-6, "{offset} [{n}, {c}, {s}]: {far}");
            }
        }
    }

    #[test]
    fn threads_do_not_change_batch_norm() {
        let x = noise::<f32>(20_000 * 12, 5);
        for (n, c, s) in [(20_000, 12, 1), (200, 12, 100)] {
            assert_same_bits_for_any_number_of_threads(|| {
                let [mut y, mut dx] = [unwritten(x.len()), unwritten(x.len())];
                let [mut mean, mut rstd, mut variance] = [(); 3].map(|()| unwritten(c));
                let moments = [&mut mean[..], &mut rstd, &mut variance];
                batch_norm(&x, n, c, s, 1e-5, &x[..c], &x[..c], &mut y, moments);
                let [mut dscale, mut dshift] = [unwritten(c), unwritten(c)];
                let (scale, dscale_out, dshift_out) = (Some(&x[..c]), &mut dscale, &mut dshift);
                batch_norm_backward(
                    &x, &y, n, c, s, &mean, &rstd, scale, &mut dx, dscale_out, dshift_out,
                );
                [y, dx, mean, variance, dscale, dshift].concat()
            });
        }
    }
}
