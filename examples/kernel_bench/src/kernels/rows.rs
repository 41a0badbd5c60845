//! Kernels over rows, channels and windows.

use alcyon::kernels::cuda::{self, Scalar, SliceMut};
use alcyon::kernels::softmax::{self, ladder};
use alcyon::kernels::unfold::Window;
use alcyon::kernels::{Float, norm, pooling, reduce, rms_norm as rms};
use alcyon::prelude::*;

use crate::case::{At, Case, There, numbers};

/// ε of the norms.
const EPSILON: f64 = 1e-5;

pub(crate) fn sum_rows<T: Float>(at: &At<'_>) -> Result<Case> {
    sums::<T>(at, |rows, width| (rows, width, 1))
}

pub(crate) fn sum_columns<T: Float>(at: &At<'_>) -> Result<Case> {
    sums::<T>(at, |rows, width| (1, rows, width))
}

/// Sums along the middle of what `split` makes of the sizes.
fn sums<T: Float>(at: &At<'_>, split: fn(usize, usize) -> (usize, usize, usize)) -> Result<Case> {
    let &[rows, width] = at.shape else { return Ok(Case::new::<T>(0, 0)) };
    let (outer, n, inner) = split(rows, width);
    let x = numbers::<T>(rows * width, 0);
    let there = There::new(at, &x)?;
    let (same, results) = (x.clone(), outer * inner);
    let reference = move |y: &mut [T]| {
        for (i, y) in y.iter_mut().enumerate() {
            let (o, j) = (i / inner, i % inner);
            *y = (0..n).map(|k| same[(o * n + k) * inner + j]).sum();
        }
    };
    Case::new::<T>(rows * width, rows * width + results)
        .cpu("reference", results, reference)
        .cpu("threads", results, move |y| reduce::sum_axis(&x, outer, n, inner, y))
        .cuda::<T>(at, results, move |gpu, y| {
            cuda::reduce::sum(gpu, there.slice(), (outer, n, inner), 1.0, y)
        })
}

pub(crate) fn softmax<T: Float>(at: &At<'_>) -> Result<Case> {
    let &[rows, width] = at.shape else { return Ok(Case::new::<T>(0, 0)) };
    let n = rows * width;
    let x = numbers::<T>(n, 0);
    let there = There::new(at, &x)?;
    let mut case = Case::new::<T>(5 * n, 2 * n);
    type Rung<T> = fn(&[T], usize, &mut [T]);
    let rungs: [(&str, Rung<T>); 6] = [
        ("reference", ladder::reference),
        ("polynomial", ladder::polynomial),
        ("lanes", ladder::lanes),
        ("wide", ladder::wide),
        ("online", ladder::online),
        ("threads", softmax::softmax),
    ];
    for (name, rung) in rungs {
        let x = x.clone();
        case = case.cpu(name, n, move |y| rung(&x, width, y));
    }
    case.cuda::<T>(at, n, move |gpu, y| cuda::softmax::forward(gpu, false, width, there.slice(), y))
}

pub(crate) fn cross_entropy<T: Float>(at: &At<'_>) -> Result<Case> {
    let &[rows, width] = at.shape else { return Ok(Case::new::<T>(0, 0)) };
    let n = rows * width;
    let x = numbers::<T>(n, 0);
    let labels: Vec<i64> = (0..rows).map(|r| (r % width) as i64).collect();
    let there = There::new(at, &x)?;
    let labels_there = at.gpu.map(|gpu| gpu.write(&labels)).transpose()?;
    let mut loss_there = There::<T>::room(at, 1)?;
    let same = x.clone();
    let reference = move |y: &mut [T]| {
        for (y, x) in y.chunks_exact_mut(width).zip(same.chunks_exact(width)) {
            // The numbers are in ±½: nothing overflows.
            let log_sum = x.iter().map(|x| x.to_f64().exp()).sum::<f64>().ln();
            y.iter_mut().zip(x).for_each(|(y, x)| *y = T::of(x.to_f64() - log_sum));
        }
    };
    Case::new::<T>(5 * n, 2 * n)
        .cpu("reference", n, reference)
        .cpu("threads", n, move |y| {
            let _loss = softmax::cross_entropy(&x, &labels, width, y);
        })
        .cuda::<T>(at, n, move |gpu, y| {
            let Some(labels) = &labels_there else { return Ok(()) };
            let labels = cuda::Slice::new(labels, Scalar::I64, 0, rows);
            let loss = loss_there.slice_mut();
            cuda::softmax::cross_entropy(gpu, width, there.slice(), labels, y, &loss)
        })
}

pub(crate) fn layer_norm<T: Float>(at: &At<'_>) -> Result<Case> {
    let &[rows, width] = at.shape else { return Ok(Case::new::<T>(0, 0)) };
    let n = rows * width;
    let (x, scale, shift) = (numbers::<T>(n, 0), numbers::<T>(width, 1), numbers::<T>(width, 2));
    let there = [There::new(at, &x)?, There::new(at, &scale)?, There::new(at, &shift)?];
    let mut moments_there = [There::<T>::room(at, rows)?, There::<T>::room(at, rows)?];
    let mut case = Case::new::<T>(8 * n, 2 * n);
    type Parameters<'a, T> = Option<&'a [T]>;
    type Rung<T> = for<'a> fn(
        &[T],
        usize,
        T,
        Parameters<'a, T>,
        Parameters<'a, T>,
        &mut [T],
        &mut [T],
        &mut [T],
    );
    let rungs: [(&str, Rung<T>); 5] = [
        ("reference", norm::ladder::reference),
        ("lanes", norm::ladder::lanes),
        ("fused", norm::ladder::fused),
        ("wide", norm::ladder::wide),
        ("threads", norm::layer_norm),
    ];
    for (name, rung) in rungs {
        let (x, scale, shift) = (x.clone(), scale.clone(), shift.clone());
        let (mut mean, mut rstd) = (vec![T::ZERO; rows], vec![T::ZERO; rows]);
        case = case.cpu(name, n, move |y| {
            let (scale, shift) = (Some(&scale[..]), Some(&shift[..]));
            rung(&x, width, T::of(EPSILON), scale, shift, y, &mut mean, &mut rstd);
        });
    }
    case.cuda::<T>(at, n, move |gpu, y| {
        let parameters = [Some(there[1].slice()), Some(there[2].slice())];
        let [mean, rstd] = &mut moments_there;
        let moments = [&mean.slice_mut(), &rstd.slice_mut()];
        cuda::norm::layer_norm(gpu, width, EPSILON, there[0].slice(), parameters, y, moments)
    })
}

pub(crate) fn rms_norm<T: Float>(at: &At<'_>) -> Result<Case> {
    let &[rows, width] = at.shape else { return Ok(Case::new::<T>(0, 0)) };
    let n = rows * width;
    let (x, scale) = (numbers::<T>(n, 0), numbers::<T>(width, 1));
    let there = [There::new(at, &x)?, There::new(at, &scale)?];
    let mut rstd_there = There::<T>::room(at, rows)?;
    let (same, scales) = (x.clone(), scale.clone());
    let reference = move |y: &mut [T]| {
        for (y, x) in y.chunks_exact_mut(width).zip(same.chunks_exact(width)) {
            let mean = x.iter().map(|&x| x * x).sum::<T>() / T::of(width as f64);
            let rstd = T::ONE / (mean + T::of(EPSILON)).sqrt();
            for ((y, &x), &scale) in y.iter_mut().zip(x).zip(&scales) {
                *y = scale * x * rstd;
            }
        }
    };
    let mut rstd = vec![T::ZERO; rows];
    Case::new::<T>(4 * n, 2 * n)
        .cpu("reference", n, reference)
        .cpu("threads", n, move |y| {
            rms::rms_norm(&x, width, T::of(EPSILON), Some(&scale), y, &mut rstd);
        })
        .cuda::<T>(at, n, move |gpu, y| {
            let (x, scale) = (there[0].slice(), Some(there[1].slice()));
            cuda::norm::rms_norm(gpu, width, EPSILON, x, scale, y, &rstd_there.slice_mut())
        })
}

pub(crate) fn batch_moments<T: Float>(at: &At<'_>) -> Result<Case> {
    let &[images, channels, pixels] = at.shape else { return Ok(Case::new::<T>(0, 0)) };
    let n = images * channels * pixels;
    let x = numbers::<T>(n, 0);
    let there = There::new(at, &x)?;
    let mut spare_there = [There::<T>::room(at, channels)?, There::<T>::room(at, channels)?];
    let (same, mut mean) = (x.clone(), vec![T::ZERO; channels]);
    let reference = move |variance: &mut [T]| {
        let of = |c: usize| (0..images).map(move |i| (i * channels + c) * pixels);
        let m = T::of((images * pixels) as f64);
        for (c, variance) in variance.iter_mut().enumerate() {
            let mean = of(c).flat_map(|at| &same[at..at + pixels]).copied().sum::<T>() / m;
            let square = |&x: &T| (x - mean) * (x - mean);
            *variance = of(c).flat_map(|at| &same[at..at + pixels]).map(square).sum::<T>() / m;
        }
    };
    Case::new::<T>(4 * n, n)
        .cpu("reference", channels, reference)
        .cpu("threads", channels, move |variance| {
            norm::batch_moments(&x, images, channels, pixels, &mut mean, variance);
        })
        .cuda::<T>(at, channels, move |gpu, variance| {
            let [mean, rstd] = &mut spare_there;
            let moments = [&mean.slice_mut(), &rstd.slice_mut(), variance];
            let sizes = (images, channels, pixels);
            cuda::norm::batch_moments(gpu, sizes, EPSILON, there.slice(), moments)
        })
}

pub(crate) fn max_pool<T: Float>(at: &At<'_>) -> Result<Case> {
    let &[planes, h, w] = at.shape else { return Ok(Case::new::<T>(0, 0)) };
    let window = Window { stride: (2, 2), ..Window::new((2, 2)) };
    let (oh, ow) = (h / 2, w / 2);
    let (n, results) = (planes * h * w, planes * oh * ow);
    let x = numbers::<T>(n, 0);
    let there = There::new(at, &x)?;
    let mut places_there = at.gpu.map(|gpu| gpu.write(&vec![0_i64; results])).transpose()?;
    let (same, mut places) = (x.clone(), vec![0; results]);
    let reference = move |y: &mut [T]| {
        for (i, y) in y.iter_mut().enumerate() {
            let (plane, p, q) = (i / (oh * ow), i / ow % oh, i % ow);
            let pixel = |a: usize, b: usize| same[(plane * h + 2 * p + a) * w + 2 * q + b];
            *y = pixel(0, 0).max(pixel(0, 1)).max(pixel(1, 0)).max(pixel(1, 1));
        }
    };
    // Beside the numbers, a place of 8 bytes for each result.
    let moved = n + results + results * 8 / size_of::<T>();
    let pool =
        cuda::pooling::Pool { planes, input: (h, w), output: (oh, ow), window: Some(window) };
    Case::new::<T>(3 * results, moved)
        .cpu("reference", results, reference)
        .cpu("threads", results, move |y| {
            pooling::max_pool(&x, planes, h, w, &window, y, &mut places);
        })
        .cuda::<T>(at, results, move |gpu, y| {
            let Some(places) = &mut places_there else { return Ok(()) };
            let places = SliceMut::new(places, Scalar::I64, results);
            cuda::pooling::max(gpu, &pool, there.slice(), y, &places)
        })
}
