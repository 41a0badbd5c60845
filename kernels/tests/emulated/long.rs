//! Rows longer than a block has threads: the numbers of the CPU's kernels.

use alcyon_kernels::attention::{self, Attention};
use alcyon_kernels::conv::Conv2d;
use alcyon_kernels::cuda::{self, Gpu, Scalar, Slice, SliceMut};
use alcyon_kernels::group_norm::{self, Groups};
use alcyon_kernels::interpolate::{self, Sampling};
use alcyon_kernels::second_moment;
use alcyon_kernels::sort;
use alcyon_kernels::unfold::Window;

use crate::{device, read};

fn numbers(len: usize, seed: usize) -> Vec<f64> {
    (0..len).map(|i| ((i + seed) * 7919 % 1009) as f64 / 504.5 - 1.0).collect()
}

/// What a kernel writes into arrays of the given lengths.
fn outputs<const N: usize>(
    gpu: &Gpu,
    lengths: [usize; N],
    run: impl FnOnce([&SliceMut<'_>; N]),
) -> [Vec<f64>; N] {
    let mut buffers = lengths.map(|len| gpu.memory().allocate(8 * len).unwrap());
    let mut at = 0;
    let slices = buffers.each_mut().map(|buffer| {
        at += 1;
        SliceMut::new(buffer, Scalar::F64, lengths[at - 1])
    });
    run(slices.each_ref());
    std::array::from_fn(|i| read(gpu, &buffers[i], lengths[i]))
}

/// The numbers on the device, for as long as `run` takes.
fn with<const N: usize, R>(
    gpu: &Gpu,
    all: [&[f64]; N],
    run: impl FnOnce([Slice<'_>; N]) -> R,
) -> R {
    let buffers = all.map(|x| gpu.write(x).unwrap());
    run(std::array::from_fn(|i| Slice::new(&buffers[i], Scalar::F64, 0, all[i].len())))
}

fn near(got: &[f64], expected: &[f64]) {
    assert_eq!(got.len(), expected.len());
    for (i, (a, b)) in got.iter().zip(expected).enumerate() {
        assert!((a - b).abs() < 1e-11, "entry {i}: {a} for {b}");
    }
}

#[test]
fn the_order_of_long_rows_is_the_cpus_with_ties_and_nan() {
    let Some((gpu, _guard)) = device() else { return };
    for (outer, n, inner) in [(2, 1, 3), (1, 2, 1), (2, 37, 3), (1, 600, 2), (1, 1024, 1)] {
        let mut x: Vec<f64> =
            numbers(outer * n * inner, n).iter().map(|x| (x * 20.0).round()).collect();
        x.iter_mut().step_by(11).for_each(|x| *x = f64::NAN);
        for descending in [false, true] {
            let mut expected = vec![-1; x.len()];
            sort::argsort(&x, outer, n, inner, descending, &mut expected);
            let mut out = gpu.memory().allocate(8 * x.len()).unwrap();
            with(&gpu, [&x], |[x]| {
                let out = SliceMut::new(&mut out, Scalar::I64, x.len());
                cuda::sort::argsort(&gpu, x, (outer, n, inner), descending, &out).unwrap();
            });
            assert_eq!(read::<i64>(&gpu, &out, x.len()), expected, "{n} {descending}");
        }
    }
}

#[test]
fn attention_over_many_keys_agrees_with_the_cpu() {
    let Some((gpu, _guard)) = device() else { return };
    for causal in [false, true] {
        let sizes =
            Attention { heads: 2, queries: 3, keys: 300, width: 5, values: 4, causal, scale: 0.6 };
        let (q, k) = (numbers(2 * 3 * 5, 1), numbers(2 * 300 * 5, 2));
        let (v, g) = (numbers(2 * 300 * 4, 3), numbers(2 * 3 * 4, 4));
        let (mut out, mut sums) = (vec![f64::NAN; g.len()], vec![f64::NAN; 6]);
        attention::attention(&sizes, &q, &k, &v, &mut out, &mut sums);
        let there = with(&gpu, [&q, &k, &v], |inputs| {
            outputs(&gpu, [out.len(), sums.len()], |[y, log_sums]| {
                cuda::attention::forward(&gpu, &sizes, inputs, y, log_sums).unwrap();
            })
        });
        near(&there[0], &out);
        near(&there[1], &sums);

        let [mut dq, mut dk, mut dv] = [&q, &k, &v].map(|x| vec![f64::NAN; x.len()]);
        let gradients = (&mut dq[..], &mut dk[..], &mut dv[..]);
        attention::attention_backward(&sizes, (&q, &k, &v), &out, &sums, &g, gradients);
        let there = with(&gpu, [&q, &k, &v, &out, &sums, &g], |[q, k, v, out, sums, g]| {
            outputs(&gpu, [q.len(), k.len(), v.len()], |gradients| {
                cuda::attention::backward(&gpu, &sizes, [q, k, v], [out, sums, g], gradients)
                    .unwrap();
            })
        });
        for (there, here) in there.iter().zip([&dq, &dk, &dv]) {
            near(there, here);
        }
    }
}

#[test]
fn group_norm_of_wide_groups_agrees_with_the_cpu() {
    let Some((gpu, _guard)) = device() else { return };
    let sizes = Groups { n: 2, c: 6, s: 150, groups: 2 };
    let whole = sizes.n * sizes.c * sizes.s;
    let (x, g) = (numbers(whole, 1), numbers(whole, 2));
    let (scale, shift) = (numbers(6, 3), numbers(6, 4));
    let (mut y, [mut mean, mut rstd]) =
        (vec![f64::NAN; whole], [(); 2].map(|()| vec![f64::NAN; 4]));
    group_norm::group_norm(
        &sizes,
        &x,
        1e-3,
        Some(&scale),
        Some(&shift),
        &mut y,
        &mut mean,
        &mut rstd,
    );
    let there = with(&gpu, [&x, &scale, &shift], |[x, scale, shift]| {
        outputs(&gpu, [whole, 4, 4], |[y, mean, rstd]| {
            let parameters = [Some(scale), Some(shift)];
            cuda::group_norm::forward(&gpu, &sizes, 1e-3, x, parameters, y, [mean, rstd]).unwrap();
        })
    });
    for (there, here) in there.iter().zip([&y, &mean, &rstd]) {
        near(there, here);
    }
    let (mut dx, [mut d_scale, mut d_shift]) =
        (vec![f64::NAN; whole], [(); 2].map(|()| vec![f64::NAN; 6]));
    group_norm::group_norm_backward(
        &sizes,
        &x,
        &g,
        &mean,
        &rstd,
        Some(&scale),
        &mut dx,
        &mut d_scale,
        &mut d_shift,
    );
    let there = with(&gpu, [&x, &g, &mean, &rstd, &scale], |[x, g, mean, rstd, scale]| {
        outputs(&gpu, [whole, 6, 6], |[dx, d_scale, d_shift]| {
            let (all, parameters) = ([x, g, mean, rstd], [d_scale, d_shift]);
            cuda::group_norm::backward(&gpu, &sizes, all, Some(scale), dx, parameters).unwrap();
        })
    });
    for (there, here) in there.iter().zip([&dx, &d_scale, &d_shift]) {
        near(there, here);
    }
}

#[test]
fn images_of_many_pixels_at_other_resolutions_agree_with_the_cpu() {
    let Some((gpu, _guard)) = device() else { return };
    for how in [Sampling::Nearest, Sampling::Linear, Sampling::LinearAligned] {
        for ((h, w), (rows, columns)) in [((9, 17), (23, 31)), ((29, 13), (7, 5)), ((1, 8), (4, 1))]
        {
            let (x, g) = (numbers(3 * h * w, 1), numbers(3 * rows * columns, 2));
            let (down, across) = (how.taps(h, rows), how.taps(w, columns));
            let (mut y, mut dx) = (vec![f64::NAN; g.len()], vec![f64::NAN; x.len()]);
            interpolate::interpolate(&x, (h, w), &down, &across, &mut y);
            interpolate::interpolate_backward(&g, &down, &across, (h, w), &mut dx);
            let sizes = [(h, w), (rows, columns)];
            let there = with(&gpu, [&x, &g], |[x, g]| {
                outputs(&gpu, [y.len(), dx.len()], |[y, dx]| {
                    cuda::interpolate::forward(&gpu, how, sizes, x, y).unwrap();
                    cuda::interpolate::backward(&gpu, how, sizes, g, dx).unwrap();
                })
            });
            near(&there[0], &y);
            near(&there[1], &dx);
        }
    }
}

#[test]
fn sums_of_squares_agree_with_the_cpu() {
    let Some((gpu, _guard)) = device() else { return };
    let (rows, width) = (150, 7);
    let x = numbers(rows * width, 1);
    let mut columns = vec![f64::NAN; width];
    second_moment::column_squares(&x, rows, width, &mut columns);
    let (n, c, s) = (3, 5, 70);
    let images = numbers(n * c * s, 2);
    let mut channels = vec![f64::NAN; c];
    second_moment::channel_squares(&images, n, c, s, &mut channels);
    let window = Window { kernel: (3, 2), stride: (2, 1), padding: (1, 2), dilation: (1, 3) };
    let conv = Conv2d {
        batch: 3,
        in_channels: 4,
        out_channels: 2,
        groups: 2,
        input: (11, 13),
        output: window.output((11, 13)).unwrap(),
        window,
    };
    let planes = numbers(3 * 4 * 11 * 13, 3);
    let mut patches = vec![f64::NAN; conv.groups * conv.patch()];
    second_moment::patch_squares(&conv, &planes, &mut patches);
    let there = with(&gpu, [&x, &images, &planes], |[x, images, planes]| {
        outputs(&gpu, [columns.len(), channels.len(), patches.len()], |[y, z, w]| {
            cuda::second_moment::column_squares(&gpu, x, y).unwrap();
            cuda::second_moment::channel_squares(&gpu, (n, c, s), images, z).unwrap();
            cuda::second_moment::patch_squares(&gpu, &conv, planes, w).unwrap();
        })
    });
    for (there, here) in there.iter().zip([&columns, &channels, &patches]) {
        near(there, here);
    }
}
