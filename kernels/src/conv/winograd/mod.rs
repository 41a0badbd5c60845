//! Convolution by a 3 × 3 kernel with a quarter of the multiplications: F(4×4, 3×3).
//!
//! The image is cut into tiles of 6 × 6 that overlap by two. A tile of results is
//! Y = Aᵀ \[(G w Gᵀ) ∘ (Bᵀ d B)\] A, and the sum over channels can be taken before the last map. So
//! there are 36 matrix products, V\[point\] \[tiles, C\] · U\[point\] \[C, K\], instead of nine.
//!
//! ⟨Y, g⟩ = Σ (A g Aᵀ) ∘ (G w Gᵀ) ∘ (Bᵀ d B) is one trilinear form, so the gradient of the weights is
//! dW = Gᵀ \[Σ over tiles (A g Aᵀ) ∘ (Bᵀ d B)\] G. The gradient of the input is a convolution of g with
//! the weights turned by 180°.
//!
//! The error in f32, as ‖y − y₆₄‖ / ‖y₆₄‖, is about twice that of the sum by the definition
//! (`the_error_in_f32_is_of_the_order_of_rounding`). f64 does not come here: see `plan.rs`.
//!
//! Source: Winograd 1980; Lavin & Gray 2016, algorithm 1.

mod passes;
mod transform;

use passes::{AddWeights, Filters, Input, Output, Results, Weights};
use transform::{POINTS, RESULTS, TAPS};

use super::Conv2d;
use super::channels_last::{Frame, to_planes};
use super::register_tile::{self, LANES, Runs};
use crate::float::Float;
use crate::parallel;
use crate::pool::Buffer;
use crate::simd;

/// The products of a tile.
const AREA: usize = POINTS * POINTS;

/// The most channels that are transformed at one time.
const SLAB: usize = 64;

/// About this many tiles make a block: the fewer, the more often weights are read; the more, the
/// further away the tiles are.
const BLOCK: usize = 48;

/// The transformed numbers that exist at one time: 8 MiB of f32.
const ROUND: usize = 1 << 21;

/// [`conv::forward`](super::forward) by this rung. For the geometries that [`fits`] allows.
pub fn forward<T: Float>(conv: &Conv2d, x: &[T], w: &[T], bias: Option<&[T]>, y: &mut [T]) {
    conv.check("conv::winograd::forward", Some(x.len()), Some(w.len()), Some(y.len()));
    assert!(fits(conv), "conv::winograd: {conv:?}");
    let tiles = Tiles::new(conv.in_channels, conv.input, conv.output, conv.window.padding);
    let weights = Weights { w, conv, transposed: false };
    tiles.apply(conv.batch, x, weights, bias, (conv.out_channels, y));
}

/// [`conv::backward_input`](super::backward_input) by this rung. For the geometries that [`fits`] allows.
pub fn backward_input<T: Float>(conv: &Conv2d, g: &[T], w: &[T], dx: &mut [T]) {
    conv.check("conv::winograd::backward_input", Some(dx.len()), Some(w.len()), Some(g.len()));
    assert!(fits(conv), "conv::winograd: {conv:?}");
    let (down, right) = conv.window.padding;
    let padding = (TAPS - 1 - down, TAPS - 1 - right);
    let tiles = Tiles::new(conv.out_channels, conv.output, conv.input, padding);
    let weights = Weights { w, conv, transposed: true };
    tiles.apply(conv.batch, g, weights, None, (conv.in_channels, dx));
}

/// [`conv::backward_weight`](super::backward_weight) by this rung. For the geometries that [`fits`]
/// allows.
pub fn backward_weight<T: Float>(conv: &Conv2d, x: &[T], g: &[T], dw: &mut [T]) {
    conv.check("conv::winograd::backward_weight", Some(x.len()), Some(dw.len()), Some(g.len()));
    assert!(fits(conv), "conv::winograd: {conv:?}");
    dw.fill(T::ZERO);
    if dw.is_empty() || g.is_empty() {
        return;
    }
    let tiles = Tiles::new(conv.in_channels, conv.input, conv.output, conv.window.padding);
    let panels = conv.out_channels.div_ceil(LANES);
    let wide = panels * LANES;
    let round = tiles.images_of_a_round(conv.batch, tiles.width + wide);
    let mut inputs = Buffer::unspecified(round * tiles.per_image() * tiles.width * AREA);
    let mut outputs = Buffer::unspecified(round * tiles.per_image() * wide * AREA);
    let (image, plane) = (conv.in_channels * conv.pixels(), conv.positions());
    for first in (0..conv.batch).step_by(round) {
        // LOOP 1: Bᵀ d B of all tiles of a round, and A g Aᵀ.
        let round = round.min(conv.batch - first);
        let inputs = &mut inputs[..round * tiles.per_image() * tiles.width * AREA];
        tiles.transform(&x[first * image..(first + round) * image], inputs);
        let outputs = &mut outputs[..round * tiles.per_image() * wide * AREA];
        let g = &g[first * conv.out_channels * plane..(first + round) * conv.out_channels * plane];
        let panel = round * tiles.per_image() * LANES * AREA;
        let blocks: Vec<&mut [T]> = outputs
            .chunks_mut(panel)
            .flat_map(|panel| panel.chunks_mut(tiles.block() * LANES * AREA))
            .collect();
        let per_panel = round.div_ceil(tiles.images);
        let work = 4 * tiles.block() * AREA * LANES;
        parallel::items(blocks, work, |i, out: &mut [T]| {
            let (panel, first) = (i / per_panel, i % per_panel * tiles.images);
            let count = LANES.min(conv.out_channels - panel * LANES);
            let images = g.chunks_exact(conv.out_channels * plane).skip(first).take(tiles.images);
            let planes = images.map(|g| &g[panel * LANES * plane..][..count * plane]);
            tiles.transform_results(planes, conv.output, out);
        });
        // LOOP 2: for each panel of outputs, the sum over tiles at each point; then Gᵀ · G.
        let dw = dw.chunks_mut(LANES * conv.patch()).collect();
        let work = panel / LANES * tiles.width;
        parallel::items(dw, work, |i, dw: &mut [T]| {
            let outputs = &outputs[i * panel..(i + 1) * panel];
            let mut sums = Buffer::unspecified(AREA * tiles.slab * LANES);
            for first in (0..conv.in_channels).step_by(tiles.slab) {
                tiles.products(inputs, first, outputs, &mut sums);
                let channels = first..conv.in_channels.min(first + tiles.slab);
                let (sums, width, all) = (&sums, tiles.slab, conv.in_channels);
                simd::run(AddWeights { sums, width, channels, all, dw });
            }
        });
    }
}

/// Whether this rung can do the convolution: 3 × 3, one step at a time, one group.
#[must_use]
pub fn fits(conv: &Conv2d) -> bool {
    let window = &conv.window;
    (window.kernel, window.stride, window.dilation) == ((TAPS, TAPS), (1, 1), (1, 1))
        && window.padding.0 < TAPS
        && window.padding.1 < TAPS
        && conv.groups == 1
}

/// How images are cut into tiles, and where their numbers are put.
///
/// Transformed images are \[block, slab, point, tile, channel of the slab\], where a block has the tiles
/// of some whole images.
struct Tiles {
    channels: usize,
    /// (H, W) of the images that are read and of the images that are written.
    input: (usize, usize),
    output: (usize, usize),
    frame: Frame,
    /// The number of tiles, down and right.
    grid: (usize, usize),
    /// The images of a block.
    images: usize,
    /// The channels of a slab, and of all slabs.
    slab: usize,
    width: usize,
}

impl Tiles {
    fn new(
        channels: usize,
        input: (usize, usize),
        output: (usize, usize),
        before: (usize, usize),
    ) -> Self {
        let grid = (output.0.div_ceil(RESULTS), output.1.div_ceil(RESULTS));
        let size = (grid.0 * RESULTS + POINTS - RESULTS, grid.1 * RESULTS + POINTS - RESULTS);
        let width = channels.next_multiple_of(LANES);
        let slab = if width.is_multiple_of(SLAB) { SLAB } else { width };
        let images = (BLOCK / (grid.0 * grid.1).max(1)).max(1);
        Self { channels, input, output, frame: Frame { before, size }, grid, images, slab, width }
    }

    fn per_image(&self) -> usize {
        self.grid.0 * self.grid.1
    }

    /// The tiles of a full block.
    fn block(&self) -> usize {
        self.images * self.per_image()
    }

    /// How many images, in whole blocks, are transformed at one time to `width` numbers each pixel.
    fn images_of_a_round(&self, batch: usize, width: usize) -> usize {
        let block = self.block() * width * AREA;
        let blocks = (ROUND / block.max(1)).max(1);
        (blocks * self.images).min(batch)
    }

    /// Writes Bᵀ d B of all tiles of some images.
    fn transform<T: Float>(&self, images: &[T], out: &mut [T]) {
        let image = self.channels * self.input.0 * self.input.1;
        let blocks = out.chunks_mut(self.block() * self.width * AREA);
        let slabs = blocks.flat_map(|block| {
            let tiles = block.len() / (self.width * AREA);
            block.chunks_mut(tiles * self.slab * AREA)
        });
        let count = self.width / self.slab;
        let work = 4 * self.block() * AREA * self.slab;
        parallel::items(slabs.collect(), work, |i, out: &mut [T]| {
            let (block, slab) = (i / count, i % count);
            let tiles = out.len() / (self.slab * AREA);
            let channels = self.slab.min(self.channels - slab * self.slab);
            let pixels = self.input.0 * self.input.1;
            let mut framed = Buffer::unspecified(self.frame.pixels() * self.slab);
            for n in 0..tiles / self.per_image() {
                let at = (block * self.images + n) * image + slab * self.slab * pixels;
                let planes = &images[at..at + channels * pixels];
                self.frame.fill(planes, channels, self.input, &mut framed, self.slab);
                let (first, width) = (n * self.per_image(), self.slab);
                simd::run(Input { framed: &framed, grid: self.grid, first, tiles, width, out });
            }
        });
    }

    /// Writes A g Aᵀ of all tiles of one panel of some images: [point, tile, LANES].
    fn transform_results<'a, T: Float>(
        &self,
        images: impl Iterator<Item = &'a [T]>,
        size: (usize, usize),
        out: &mut [T],
    ) {
        let whole = (self.grid.0 * RESULTS, self.grid.1 * RESULTS);
        let frame = Frame { before: (0, 0), size: whole };
        let tiles = out.len() / (LANES * AREA);
        let mut framed = Buffer::unspecified(frame.pixels() * LANES);
        for (n, planes) in images.enumerate() {
            frame.fill(planes, planes.len() / (size.0 * size.1), size, &mut framed, LANES);
            let first = n * self.per_image();
            simd::run(Results { framed: &framed, grid: self.grid, first, tiles, out });
        }
    }

    /// sums\[point, channel, lane\] = Σ over tiles of V\[point, tile, channel\] · Z\[point, tile, lane\]
    /// for the slab that begins with channel `first`.
    fn products<T: Float>(&self, inputs: &[T], first: usize, outputs: &[T], sums: &mut [T]) {
        let blocks = inputs.chunks(self.block() * self.width * AREA);
        let both = blocks.zip(outputs.chunks(self.block() * LANES * AREA));
        for (block, (inputs, outputs)) in both.enumerate() {
            let tiles = outputs.len() / (LANES * AREA);
            let inputs = inputs[tiles * first * AREA..].chunks_exact(tiles * self.slab);
            let outputs = outputs.chunks_exact(tiles * LANES);
            let sums = sums.chunks_exact_mut(self.slab * LANES);
            for ((v, z), sums) in inputs.zip(outputs).zip(sums) {
                register_tile::across(v, self.slab, z, block > 0, sums);
            }
        }
    }

    /// y = the convolution of images x.
    fn apply<T: Float>(
        &self,
        batch: usize,
        x: &[T],
        weights: Weights<'_, T>,
        bias: Option<&[T]>,
        (outputs, y): (usize, &mut [T]),
    ) {
        if y.is_empty() {
            return;
        }
        let (image, pixels) =
            (self.channels * self.input.0 * self.input.1, self.output.0 * self.output.1);
        let round = self.images_of_a_round(batch, self.width);
        let mut inputs = Buffer::unspecified(round * self.per_image() * self.width * AREA);
        for first in (0..batch).step_by(round) {
            // LOOP 1: Bᵀ d B of all tiles of a round.
            let round = round.min(batch - first);
            let inputs = &mut inputs[..round * self.per_image() * self.width * AREA];
            self.transform(&x[first * image..(first + round) * image], inputs);
            // LOOP 2: for each panel of outputs, G w Gᵀ; then block by block the products and Aᵀ · A.
            let mut panels: Vec<Vec<&mut [T]>> = Vec::new();
            panels.resize_with(outputs.div_ceil(LANES), Vec::new);
            for y in y[first * outputs * pixels..].chunks_mut(outputs * pixels).take(round) {
                for (panel, y) in panels.iter_mut().zip(y.chunks_mut(LANES * pixels)) {
                    panel.push(y);
                }
            }
            let work = round * self.per_image() * AREA * self.width;
            parallel::items(panels, work, |panel, mut y| {
                let mut filters = Buffer::unspecified(AREA * self.width * LANES);
                let (first, width) = (panel * LANES, self.width);
                simd::run(Filters { weights, first, width, out: &mut filters });
                let bias = bias.map(|bias| &bias[panel * LANES..]);
                let blocks = inputs.chunks(self.block() * self.width * AREA);
                let both = blocks.zip(y.chunks_mut(self.images)).collect();
                parallel::items(both, work / 4, |_, (inputs, y): (&[T], &mut [&mut [T]])| {
                    self.results(inputs, &filters, bias, y);
                });
            });
        }
    }

    /// The results of one block of images and one panel.
    fn results<T: Float>(
        &self,
        inputs: &[T],
        filters: &[T],
        bias: Option<&[T]>,
        y: &mut [&mut [T]],
    ) {
        let tiles = inputs.len() / (self.width * AREA);
        let slab = tiles * self.slab * AREA;
        let runs = Runs { count: self.width / self.slab, apart: slab, length: self.slab };
        let mut products = Buffer::unspecified(AREA * tiles * LANES);
        for (point, products) in products.chunks_exact_mut(tiles * LANES).enumerate() {
            let filters = &filters[point * self.width * LANES..][..self.width * LANES];
            let inputs = &inputs[point * tiles * self.slab..];
            register_tile::along(inputs, self.slab, runs, filters, products);
        }
        let mut pixels = Buffer::unspecified(self.output.0 * self.output.1 * LANES);
        for (n, y) in y.iter_mut().enumerate() {
            let first = n * self.per_image();
            let (grid, size) = (self.grid, self.output);
            simd::run(Output { products: &products, grid, first, tiles, size, out: &mut pixels });
            to_planes(&pixels, bias, y);
        }
    }
}
