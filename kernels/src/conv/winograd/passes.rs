//! The transforms of `transform.rs` over whole images, filters and results, sixteen channels at a
//! time.

use std::ops::Range;

use super::transform::{
    Lanes, POINTS, RESULTS, TAPS, both_ways, filter, filter_adjoint, input, output, output_adjoint,
};
use super::{AREA, Conv2d};
use crate::conv::register_tile::LANES;
use crate::float::Float;
use crate::simd::{Machine, Vectorised};

/// Bᵀ d B of one framed image: out\[point, first + tile, channel\] from framed\[pixel, channel\].
pub(super) struct Input<'a, T> {
    pub(super) framed: &'a [T],
    pub(super) grid: (usize, usize),
    pub(super) first: usize,
    pub(super) tiles: usize,
    pub(super) width: usize,
    pub(super) out: &'a mut [T],
}

impl<T: Float> Vectorised for Input<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: Machine>(self) {
        let Self { framed, grid, first, tiles, width, out } = self;
        let line = (grid.1 * RESULTS + POINTS - RESULTS) * width;
        for tile in 0..grid.0 * grid.1 {
            let corner = tile / grid.1 * RESULTS * line + tile % grid.1 * RESULTS * width;
            for c in (0..width).step_by(LANES) {
                let at = |i: usize| corner + i / POINTS * line + i % POINTS * width + c;
                both_ways::<T, POINTS, POINTS>(
                    input,
                    |i| lanes(framed, at(i)),
                    |point, x| put(out, (point * tiles + first + tile) * width + c, x),
                );
            }
        }
    }
}

/// A g Aᵀ of one framed image of 16 channels: out\[point, first + tile, lane\].
pub(super) struct Results<'a, T> {
    pub(super) framed: &'a [T],
    pub(super) grid: (usize, usize),
    pub(super) first: usize,
    pub(super) tiles: usize,
    pub(super) out: &'a mut [T],
}

impl<T: Float> Vectorised for Results<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: Machine>(self) {
        let Self { framed, grid, first, tiles, out } = self;
        let line = grid.1 * RESULTS;
        for tile in 0..grid.0 * grid.1 {
            let corner = tile / grid.1 * RESULTS * line + tile % grid.1 * RESULTS;
            both_ways::<T, RESULTS, POINTS>(
                output_adjoint,
                |i| lanes(framed, (corner + i / RESULTS * line + i % RESULTS) * LANES),
                |point, z| put(out, (point * tiles + first + tile) * LANES, z),
            );
        }
    }
}

/// Aᵀ m A for one image: out\[pixel, lane\] from products\[point, first + tile, lane\].
pub(super) struct Output<'a, T> {
    pub(super) products: &'a [T],
    pub(super) grid: (usize, usize),
    pub(super) first: usize,
    pub(super) tiles: usize,
    pub(super) size: (usize, usize),
    pub(super) out: &'a mut [T],
}

impl<T: Float> Vectorised for Output<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: Machine>(self) {
        let Self { products, grid, first, tiles, size, out } = self;
        for tile in 0..grid.0 * grid.1 {
            let (top, left) = (tile / grid.1 * RESULTS, tile % grid.1 * RESULTS);
            both_ways::<T, POINTS, RESULTS>(
                output,
                |point| lanes(products, (point * tiles + first + tile) * LANES),
                |i, y| {
                    let (row, column) = (top + i / RESULTS, left + i % RESULTS);
                    if row < size.0 && column < size.1 {
                        put(out, (row * size.1 + column) * LANES, y);
                    }
                },
            );
        }
    }
}

/// The weights, as the map that they are used for sees them.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a, T> {
    pub(super) w: &'a [T],
    pub(super) conv: &'a Conv2d,
    /// From outputs to inputs, and turned by 180°.
    pub(super) transposed: bool,
}

/// G w Gᵀ of a panel of results: out\[point, channel, lane\].
pub(super) struct Filters<'a, T> {
    pub(super) weights: Weights<'a, T>,
    /// The first result of the panel.
    pub(super) first: usize,
    /// The channels, with those that are missing.
    pub(super) width: usize,
    pub(super) out: &'a mut [T],
}

impl<T: Float> Vectorised for Filters<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: Machine>(self) {
        let Self { weights: Weights { w, conv, transposed }, first, width, out } = self;
        let (patch, area) = (conv.patch(), TAPS * TAPS);
        let (channels, results) = if transposed {
            (conv.out_channels, conv.in_channels)
        } else {
            (conv.in_channels, conv.out_channels)
        };
        for c in 0..width {
            let mut taps = [[T::ZERO; LANES]; TAPS * TAPS];
            let lanes = if c < channels { LANES.min(results - first) } else { 0 };
            (first..first + lanes).enumerate().for_each(|(lane, result)| {
                let (down, right) = if transposed { (c, result) } else { (result, c) };
                let filter = &w[down * patch + right * area..][..area];
                for (tap, &w) in filter.iter().enumerate() {
                    taps[if transposed { area - 1 - tap } else { tap }][lane] = w;
                }
            });
            both_ways::<T, TAPS, POINTS>(
                filter,
                |tap| taps[tap],
                |point, u| put(out, (point * width + c) * LANES, u),
            );
        }
    }
}

/// dw\[lane, channel, tap\] += Gᵀ u G for u = sums\[point, channel, lane\], for some of the channels.
pub(super) struct AddWeights<'a, T> {
    pub(super) sums: &'a [T],
    /// The channels in `sums`, with those that are missing.
    pub(super) width: usize,
    pub(super) channels: Range<usize>,
    /// The channels of all `dw`.
    pub(super) all: usize,
    pub(super) dw: &'a mut [T],
}

impl<T: Float> Vectorised for AddWeights<'_, T> {
    type Output = ();

    #[inline(always)]
    fn run<M: Machine>(self) {
        let Self { sums, width, channels, all, dw } = self;
        debug_assert_eq!(sums.len(), AREA * width * LANES, "AddWeights: length of sums");
        let area = TAPS * TAPS;
        for (i, c) in channels.enumerate() {
            let mut taps = [[T::ZERO; LANES]; TAPS * TAPS];
            both_ways::<T, POINTS, TAPS>(
                filter_adjoint,
                |point| lanes(sums, (point * width + i) * LANES),
                |tap, w| taps[tap] = *w,
            );
            for (lane, dw) in dw.chunks_exact_mut(all * area).enumerate() {
                for (dw, taps) in dw[c * area..(c + 1) * area].iter_mut().zip(&taps) {
                    *dw += taps[lane];
                }
            }
        }
    }
}

#[inline(always)]
fn lanes<T: Float>(from: &[T], at: usize) -> Lanes<T> {
    let mut lanes = [T::ZERO; LANES];
    lanes.copy_from_slice(&from[at..at + LANES]);
    lanes
}

#[inline(always)]
fn put<T: Float>(to: &mut [T], at: usize, lanes: &Lanes<T>) {
    to[at..at + LANES].copy_from_slice(lanes);
}
