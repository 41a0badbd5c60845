//! Max and average pooling over windows, and over as many cells as wanted (adaptive).
//!
//! Every *plane* \[H, W\] (an image's channel) is pooled by itself. Max pooling remembers where each
//! maximum was, as a flat index into the plane, so that its gradient is one addition. Padding
//! counts as −∞ for the maximum and as 0 for the average.

mod tiled;

use crate::float::Float;
use crate::parallel;
use crate::reduce::exceeds;
use crate::simd;
use crate::sizes::elements;
use crate::unfold::{Window, positions};

/// The maximum under each window, and where it is.
///
/// The first of equal maxima wins (in row-major order), NaN wins over numbers. A window that sees
/// nothing but padding gives −∞ at −1.
///
/// # Shape
/// x: \[planes, h, w\] · y, at: \[planes, OH, OW\]
///
/// # Example
/// ```
/// use alcyon_kernels::{pooling::max_pool, unfold::Window};
/// let (mut y, mut at) = ([0.0; 2], [0; 2]);
/// max_pool(&[1.0, 4.0, 2.0], 1, 1, 3, &Window::new((1, 2)), &mut y, &mut at);
/// assert_eq!((y, at), ([4.0, 4.0], [1, 1]));
/// ```
pub fn max_pool<T: Float>(
    x: &[T],
    planes: usize,
    h: usize,
    w: usize,
    window: &Window,
    y: &mut [T],
    at: &mut [i64],
) {
    let (oh, ow) = check("max_pool", planes, (h, w), window, x.len(), y.len());
    assert_eq!(y.len(), at.len(), "max_pool: one index per output");
    let taps = window.kernel.0 * window.kernel.1;
    let size = oh * ow;
    parallel::rows2((y, size), (at, size), size * taps, |plane, y, at| {
        let x = &x[plane * h * w..(plane + 1) * h * w];
        if tiled::fits::<2>(window) {
            return simd::run(tiled::MaxPool::<_, 2> { x, w, ow, y, at });
        } else if tiled::fits::<3>(window) {
            return simd::run(tiled::MaxPool::<_, 3> { x, w, ow, y, at });
        }
        y.fill(T::NEG_INFINITY);
        at.fill(-1);
        window.each_run((h, w), (oh, ow), |_, pixel, position, count| {
            let run = position..position + count;
            let best = y[run.clone()].iter_mut().zip(&mut at[run]);
            for (i, (max, at)) in best.enumerate() {
                let pixel = pixel + i * window.stride.1;
                if *at < 0 || exceeds(x[pixel], *max) {
                    (*max, *at) = (x[pixel], pixel as i64);
                }
            }
        });
    });
}

/// dx = g, added where each maximum was: the gradient of [`max_pool`] and [`adaptive_max_pool`].
///
/// # Shape
/// g, at: \[planes, outputs\] · dx: \[planes, pixels\]
///
/// # Example
/// ```
/// let mut dx = [f64::NAN; 3];
/// alcyon_kernels::pooling::max_pool_backward(&[1.0, 2.0], &[1, 1], 1, 3, 2, &mut dx);
/// assert_eq!(dx, [0.0, 3.0, 0.0]);
/// ```
pub fn max_pool_backward<T: Float>(
    g: &[T],
    at: &[i64],
    planes: usize,
    pixels: usize,
    outputs: usize,
    dx: &mut [T],
) {
    let [inputs, length] = [outputs, pixels].map(|n| elements("max_pool_backward", [planes, n]));
    assert_eq!((g.len(), at.len()), (inputs, inputs), "max_pool_backward: lengths");
    assert_eq!(dx.len(), length, "max_pool_backward: output length");
    parallel::rows(dx, pixels, pixels + outputs, |plane, dx| {
        dx.fill(T::ZERO);
        let outputs = plane * outputs..(plane + 1) * outputs;
        for (&g, &at) in g[outputs.clone()].iter().zip(&at[outputs]) {
            if at >= 0 {
                dx[at as usize] += g;
            }
        }
    });
}

/// The average under each window.
///
/// With `count_include_pad` the sum is divided by KH·KW, otherwise by the pixels inside the image.
///
/// # Shape
/// x: \[planes, h, w\] · y: \[planes, OH, OW\]
///
/// # Example
/// ```
/// use alcyon_kernels::{pooling::avg_pool, unfold::Window};
/// let (window, mut y) = (Window { padding: (0, 1), ..Window::new((1, 2)) }, [0.0; 3]);
/// avg_pool(&[2.0, 6.0], 1, 1, 2, &window, true, &mut y);
/// assert_eq!(y, [1.0, 4.0, 3.0]);
/// avg_pool(&[2.0, 6.0], 1, 1, 2, &window, false, &mut y);
/// assert_eq!(y, [2.0, 4.0, 6.0]);
/// ```
pub fn avg_pool<T: Float>(
    x: &[T],
    planes: usize,
    h: usize,
    w: usize,
    window: &Window,
    count_include_pad: bool,
    y: &mut [T],
) {
    let (oh, ow) = check("avg_pool", planes, (h, w), window, x.len(), y.len());
    let taps = window.kernel.0 * window.kernel.1;
    parallel::rows(y, oh * ow, oh * ow * taps, |plane, y| {
        let x = &x[plane * h * w..(plane + 1) * h * w];
        y.fill(T::ZERO);
        window.each_run((h, w), (oh, ow), |_, pixel, position, count| {
            let x = x[pixel..].iter().step_by(window.stride.1);
            for (y, &x) in y[position..position + count].iter_mut().zip(x) {
                *y += x;
            }
        });
        for (position, y) in y.iter_mut().enumerate() {
            *y *= share(window, (h, w), (position / ow, position % ow), count_include_pad);
        }
    });
}

/// dx, from g = dL/dy: every pixel under a window gets its share of the window's gradient.
///
/// # Shape
/// g: \[planes, OH, OW\] · dx: \[planes, h, w\]
///
/// # Example
/// ```
/// use alcyon_kernels::{pooling::avg_pool_backward, unfold::Window};
/// let mut dx = [0.0; 3];
/// avg_pool_backward(&[2.0, 4.0], 1, 1, 3, &Window::new((1, 2)), true, &mut dx);
/// assert_eq!(dx, [1.0, 3.0, 2.0]);
/// ```
pub fn avg_pool_backward<T: Float>(
    g: &[T],
    planes: usize,
    h: usize,
    w: usize,
    window: &Window,
    count_include_pad: bool,
    dx: &mut [T],
) {
    let (oh, ow) = check("avg_pool_backward", planes, (h, w), window, dx.len(), g.len());
    let taps = window.kernel.0 * window.kernel.1;
    parallel::rows(dx, h * w, oh * ow * taps, |plane, dx| {
        let g = &g[plane * oh * ow..(plane + 1) * oh * ow];
        dx.fill(T::ZERO);
        window.each_run((h, w), (oh, ow), |_, pixel, position, count| {
            let dx = dx[pixel..].iter_mut().step_by(window.stride.1);
            for (dx, position) in dx.zip(position..position + count) {
                let at = (position / ow, position % ow);
                *dx += g[position] * share::<T>(window, (h, w), at, count_include_pad);
            }
        });
    });
}

/// The average over each of oh × ow cells; cell i covers rows ⌊i·h/oh⌋ .. ⌈(i+1)·h/oh⌉.
///
/// # Shape
/// x: \[planes, h, w\] · y: \[planes, oh, ow\]
///
/// # Example
/// ```
/// let mut y = [0.0; 2];
/// // Three pixels in two cells: the middle one is in both.
/// alcyon_kernels::pooling::adaptive_avg_pool(&[1.0, 3.0, 5.0], 1, 1, 3, 1, 2, &mut y);
/// assert_eq!(y, [2.0, 4.0]);
/// ```
pub fn adaptive_avg_pool<T: Float>(
    x: &[T],
    planes: usize,
    h: usize,
    w: usize,
    oh: usize,
    ow: usize,
    y: &mut [T],
) {
    check_adaptive("adaptive_avg_pool", planes, (h, w), (oh, ow), x.len(), y.len());
    parallel::rows(y, oh * ow, h * w, |plane, y| {
        let x = &x[plane * h * w..(plane + 1) * h * w];
        for (position, y) in y.iter_mut().enumerate() {
            let (rows, columns) = cell(position, (h, w), (oh, ow));
            let count = T::of((rows.len() * columns.len()) as f64);
            let sum: T = rows
                .map(|r| x[r * w + columns.start..r * w + columns.end].iter().copied().sum())
                .sum();
            *y = sum / count;
        }
    });
}

/// dx, from g = dL/dy: every pixel of a cell gets an equal share.
///
/// # Shape
/// g: \[planes, oh, ow\] · dx: \[planes, h, w\]
///
/// # Example
/// ```
/// let mut dx = [0.0; 3];
/// alcyon_kernels::pooling::adaptive_avg_pool_backward(&[2.0, 4.0], 1, 1, 3, 1, 2, &mut dx);
/// assert_eq!(dx, [1.0, 3.0, 2.0]);
/// ```
pub fn adaptive_avg_pool_backward<T: Float>(
    g: &[T],
    planes: usize,
    h: usize,
    w: usize,
    oh: usize,
    ow: usize,
    dx: &mut [T],
) {
    check_adaptive("adaptive_avg_pool_backward", planes, (h, w), (oh, ow), dx.len(), g.len());
    parallel::rows(dx, h * w, h * w, |plane, dx| {
        dx.fill(T::ZERO);
        for (position, &g) in g[plane * oh * ow..(plane + 1) * oh * ow].iter().enumerate() {
            let (rows, columns) = cell(position, (h, w), (oh, ow));
            let part = g / T::of((rows.len() * columns.len()) as f64);
            for r in rows {
                dx[r * w + columns.start..r * w + columns.end].iter_mut().for_each(|d| *d += part);
            }
        }
    });
}

/// The maximum over each of oh × ow cells, and where it is; its gradient is [`max_pool_backward`].
///
/// # Shape
/// x: \[planes, h, w\] · y, at: \[planes, oh, ow\]
///
/// # Example
/// ```
/// let (mut y, mut at) = ([0.0], [0]);
/// alcyon_kernels::pooling::adaptive_max_pool(&[1.0, 3.0, 2.0], 1, 1, 3, 1, 1, &mut y, &mut at);
/// assert_eq!((y, at), ([3.0], [1]));
/// ```
pub fn adaptive_max_pool<T: Float>(
    x: &[T],
    planes: usize,
    h: usize,
    w: usize,
    oh: usize,
    ow: usize,
    y: &mut [T],
    at: &mut [i64],
) {
    check_adaptive("adaptive_max_pool", planes, (h, w), (oh, ow), x.len(), y.len());
    assert_eq!(y.len(), at.len(), "adaptive_max_pool: one index per output");
    parallel::rows2((y, oh * ow), (at, oh * ow), h * w, |plane, y, at| {
        let x = &x[plane * h * w..(plane + 1) * h * w];
        for (position, (max, at)) in y.iter_mut().zip(at).enumerate() {
            let (rows, columns) = cell(position, (h, w), (oh, ow));
            (*max, *at) = (T::NEG_INFINITY, -1);
            for pixel in rows.flat_map(|r| r * w + columns.start..r * w + columns.end) {
                if *at < 0 || exceeds(x[pixel], *max) {
                    (*max, *at) = (x[pixel], pixel as i64);
                }
            }
        }
    });
}

/// 1 / the number of pixels that the window at `position` averages over; 0 if there are none.
fn share<T: Float>(
    window: &Window,
    (h, w): (usize, usize),
    (p, q): (usize, usize),
    count_include_pad: bool,
) -> T {
    // A tap at t·dilation is inside if 0 ≤ p·stride + t·dilation − padding < size: the same
    // question as for positions, with the roles of stride and dilation exchanged.
    let taps = |count, size, dilation, shift, padding| {
        positions(count, size, dilation, shift, padding).len()
    };
    let (k, s, pad, d) = (window.kernel, window.stride, window.padding, window.dilation);
    let count = if count_include_pad {
        k.0 * k.1
    } else {
        taps(k.0, h, d.0, p * s.0, pad.0) * taps(k.1, w, d.1, q * s.1, pad.1)
    };
    if count == 0 { T::ZERO } else { T::ONE / T::of(count as f64) }
}

type Cell = (std::ops::Range<usize>, std::ops::Range<usize>);

/// The rows and columns of an adaptive cell.
fn cell(position: usize, (h, w): (usize, usize), (oh, ow): (usize, usize)) -> Cell {
    let along =
        |i: usize, size: usize, count: usize| i * size / count..((i + 1) * size).div_ceil(count);
    (along(position / ow, h, oh), along(position % ow, w, ow))
}

fn check(
    kernel: &str,
    planes: usize,
    (h, w): (usize, usize),
    window: &Window,
    image: usize,
    output: usize,
) -> (usize, usize) {
    let size = window.output((h, w));
    assert!(size.is_some(), "{kernel}: {window:?} does not fit on {h} × {w}");
    let (oh, ow) = size.unwrap_or_default();
    check_planes(kernel, [[planes, h, w], [planes, oh, ow]], [image, output]);
    let _ = elements(kernel, [oh, ow, window.kernel.0, window.kernel.1]);
    (oh, ow)
}

fn check_planes(kernel: &str, sizes: [[usize; 3]; 2], lengths: [usize; 2]) {
    assert_eq!(lengths, sizes.map(|sizes| elements(kernel, sizes)), "{kernel}: lengths");
}

fn check_adaptive(
    kernel: &str,
    planes: usize,
    (h, w): (usize, usize),
    (oh, ow): (usize, usize),
    image: usize,
    output: usize,
) {
    assert!(h > 0 && w > 0, "{kernel}: the image is empty");
    check_planes(kernel, [[planes, h, w], [planes, oh, ow]], [image, output]);
    let _ =
        (elements(kernel, [oh.saturating_add(1), h]), elements(kernel, [ow.saturating_add(1), w]));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::{assert_close, inner_product, noise, unwritten};
    use crate::unfold::unfold;
    use proptest::prelude::*;

    fn any_window() -> impl Strategy<Value = Window> {
        let pair = |from: usize, to: usize| (from..to, from..to);
        (pair(1, 4), pair(1, 4), pair(0, 3), pair(1, 3)).prop_map(
            |(kernel, stride, padding, dilation)| Window { kernel, stride, padding, dilation },
        )
    }

    proptest! {
        #[test]
        fn pooling_agrees_with_patches(window in any_window(), h in 1_usize..9, w in 1_usize..9) {
            let Some((oh, ow)) = window.output((h, w)) else { return Ok(()) };
            let (size, taps) = (oh * ow, window.kernel.0 * window.kernel.1);
            let x = noise::<f64>(3 * h * w, 1);
            let g = noise::<f64>(3 * size, 2);
            let (mut max, mut at) = (unwritten(g.len()), vec![-7; g.len()]);
            max_pool(&x, 3, h, w, &window, &mut max, &mut at);
            // Patches of x and of ones tell pixels from padding.
            let (mut patches, mut inside) = (unwritten(taps * size), unwritten(taps * size));
            unfold(&vec![1.0; h * w], 1, h, w, &window, &mut inside);
            let mut averages = [unwritten(g.len()), unwritten(g.len())];
            avg_pool(&x, 3, h, w, &window, true, &mut averages[0]);
            avg_pool(&x, 3, h, w, &window, false, &mut averages[1]);
            for plane in 0..3 {
                let pixels = &x[plane * h * w..(plane + 1) * h * w];
                unfold(pixels, 1, h, w, &window, &mut patches);
                for p in 0..size {
                    let i = plane * size + p;
                    let seen = (0..taps).filter(|t| inside[t * size + p] == 1.0);
                    let seen: Vec<f64> = seen.map(|t| patches[t * size + p]).collect();
                    let largest = seen.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                    prop_assert_eq!(max[i], largest);
                    prop_assert!(at[i] < 0 && seen.is_empty() || pixels[at[i] as usize] == largest);
                    let total: f64 = seen.iter().sum();
                    prop_assert!((averages[0][i] - total / taps as f64).abs() < 1e-14);
                    prop_assert!((averages[1][i] - total / seen.len().max(1) as f64).abs() < 1e-14);
                }
            }
            // Average pooling is linear: its gradient is its adjoint.
            for (include, y) in [true, false].into_iter().zip(&averages) {
                let mut dx = unwritten(x.len());
                avg_pool_backward(&g, 3, h, w, &window, include, &mut dx);
                prop_assert!((inner_product(&dx, &x) - inner_product(&g, y)).abs() < 1e-12);
            }
            let mut dx = unwritten(x.len());
            max_pool_backward(&g, &at, 3, h * w, size, &mut dx);
            let routed: f64 = (0..g.len()).filter(|&i| at[i] >= 0).map(|i| g[i] * max[i]).sum();
            prop_assert!((inner_product(&dx, &x) - routed).abs() < 1e-12);
        }

        #[test]
        fn windows_that_tile_the_image_find_the_same_maxima_at_the_same_places(
            size in 2_usize..4, h in 3_usize..20, w in 3_usize..20, few in 1_usize..4,
        ) {
            // Few different numbers, so that maxima are equal; one of them is NaN.
            let number = |x: f64| [f64::NAN, 1.0, -2.0, 0.5][(x.abs() * few as f64 * 1.3) as usize];
            let x: Vec<f64> = noise::<f64>(2 * h * w, 1).into_iter().map(number).collect();
            let tiles = Window { stride: (size, size), ..Window::new((size, size)) };
            let Some((oh, ow)) = tiles.output((h, w)) else { return Ok(()) };
            let len = 2 * oh * ow;
            let (mut y, mut at) = (unwritten(len), vec![-7; len]);
            max_pool(&x, 2, h, w, &tiles, &mut y, &mut at);
            for i in 0..len {
                let (plane, p, q) = (i / (oh * ow), i / ow % oh, i % ow);
                let pixels = (0..size * size).map(|t| (p * size + t / size) * w + q * size + t % size);
                let first = pixels.reduce(|best, pixel| {
                    let value = |pixel| x[plane * h * w + pixel];
                    if exceeds(value(pixel), value(best)) { pixel } else { best }
                });
                prop_assert_eq!(Some(at[i] as usize), first);
                prop_assert_eq!(y[i].to_bits(), x[plane * h * w + at[i] as usize].to_bits());
            }
        }

        #[test]
        fn adaptive_cells_cover_the_image(
            (h, w) in (1_usize..9, 1_usize..9), (oh, ow) in (1_usize..9, 1_usize..9),
        ) {
            let (x, g) = (noise::<f64>(2 * h * w, 1), noise::<f64>(2 * oh * ow, 2));
            let (mut y, mut dx) = (unwritten(g.len()), unwritten(x.len()));
            adaptive_avg_pool(&x, 2, h, w, oh, ow, &mut y);
            adaptive_avg_pool_backward(&g, 2, h, w, oh, ow, &mut dx);
            prop_assert!((inner_product(&dx, &x) - inner_product(&g, &y)).abs() < 1e-12);
            // All cells together hold the largest pixel, so all pixels were seen.
            let (mut max, mut at) = (unwritten(g.len()), vec![-7; g.len()]);
            adaptive_max_pool(&x, 2, h, w, oh, ow, &mut max, &mut at);
            for plane in 0..2 {
                let largest = |x: &[f64]| x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let pixels = &x[plane * h * w..(plane + 1) * h * w];
                let cells = plane * oh * ow..(plane + 1) * oh * ow;
                prop_assert_eq!(largest(&max[cells.clone()]), largest(pixels));
                prop_assert!(cells.clone().all(|i| pixels[at[i] as usize] == max[i]));
            }
        }
    }

    #[test]
    fn adaptive_pooling_onto_divisors_is_pooling_with_that_stride() {
        let x = noise::<f64>(2 * 6 * 8, 1);
        let window = Window { stride: (3, 2), ..Window::new((3, 2)) };
        let (mut got, mut want) = (unwritten(16), unwritten(16));
        adaptive_avg_pool(&x, 2, 6, 8, 2, 4, &mut got);
        avg_pool(&x, 2, 6, 8, &window, true, &mut want);
        assert_close(&got, &want, 1e-15);
    }

    #[test]
    fn the_first_maximum_wins_and_nan_wins_over_numbers() {
        let x = [2.0, 2.0, 1.0, 2.0, f32::NAN, f32::NAN, 0.0, f32::NEG_INFINITY];
        let window = Window { stride: (1, 4), ..Window::new((1, 4)) };
        let (mut y, mut at) = (unwritten(2), [-7; 2]);
        max_pool(&x, 1, 1, 8, &window, &mut y, &mut at);
        assert!(y[0] == 2.0 && y[1].is_nan());
        assert_eq!(at, [0, 4]);
        adaptive_max_pool(&x, 1, 1, 8, 1, 2, &mut y, &mut at);
        assert!(y[0] == 2.0 && y[1].is_nan());
        assert_eq!(at, [0, 4]);
    }
}
