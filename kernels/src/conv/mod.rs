//! Two-dimensional convolution (cross-correlation, as everybody calls it), with its gradients.
//!
//! y\[n, o, p\] = bias\[o\] + Σ over (c, i, j) of w\[o, c, i, j\] · x\[n, c, p·stride + (i, j)·dilation − padding\]
//!
//! | rung        | used for                                          | 64 → 64, 32², batch 32, f32 |
//! |-------------|---------------------------------------------------|---------------|
//! | [`mod@reference`] | nothing but tests: one loop over all (output, input, weight) triples |      |
//! | [`unfolded`]  | patches of one image at a time, then a matrix product               | 66 74 54 |
//! | [`winograd`]  | 3 × 3, stride 1, many channels, f32: a quarter of the products | 161 161 149 |
//! | [`depthwise`] | one channel per group: rows are added along, no patches        |             |
//!
//! The last column: output, gradient of the input and of the weights, in Gflop/s by the definition's
//! count, on one core of an EPYC 7003 (AVX2, 102 Gflop/s at most), 2026-11. Which rung computes a
//! convolution is decided in `plan.rs`. A small layer (`kernel/conv`: 16 → 32, 14², batch 64, two
//! cores, 2026-11-21) takes the reference 380, 270 and 310 times as long as `unfolded`, and 490, 500
//! and 480 times as long as `winograd`. Tried and left out: the same register tiles over the framed
//! image without patches or transforms (71 72 66): packing an image cost what unfolding it costs.

mod channels_last;
pub mod depthwise;
mod plan;
pub mod reference;
mod register_tile;
pub mod unfolded;
pub mod winograd;

use plan::{Rung, plan};

use crate::float::Float;
use crate::sizes::elements;
use crate::unfold::Window;

/// The sizes of a convolution.
///
/// x: \[batch, in_channels, H, W\] · w: \[out_channels, in_channels / groups, KH, KW\] ·
/// y: \[batch, out_channels, OH, OW\]
///
/// # Example
/// ```
/// use alcyon_kernels::{conv::Conv2d, unfold::Window};
/// let conv = Conv2d::new(1, 1, 1, 1, (1, 3), Window::new((1, 2))).unwrap();
/// assert_eq!(conv.output, (1, 2));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Conv2d {
    /// N, the number of images.
    pub batch: usize,
    /// The number of groups that do not see each other.
    pub groups: usize,
    /// The channels of x, a multiple of `groups`.
    pub in_channels: usize,
    /// The channels of y, a multiple of `groups`.
    pub out_channels: usize,
    /// (H, W)
    pub input: (usize, usize),
    /// (OH, OW) = `window.output(input)`
    pub output: (usize, usize),
    /// Kernel, stride, padding and dilation.
    pub window: Window,
}

impl Conv2d {
    /// A convolution whose output size follows from the rest; None if the window does not fit.
    #[must_use]
    pub fn new(
        batch: usize,
        groups: usize,
        in_channels: usize,
        out_channels: usize,
        input: (usize, usize),
        window: Window,
    ) -> Option<Self> {
        let output = window.output(input)?;
        Some(Self { batch, groups, in_channels, out_channels, input, output, window })
    }

    /// D = C/groups · KH · KW, the numbers in a patch of one group.
    #[must_use]
    pub fn patch(&self) -> usize {
        self.in_channels / self.groups * self.window.kernel.0 * self.window.kernel.1
    }

    /// P = OH · OW, the positions of the window.
    #[must_use]
    pub fn positions(&self) -> usize {
        self.output.0 * self.output.1
    }

    /// The numbers in one channel of x.
    pub(crate) fn pixels(&self) -> usize {
        self.input.0 * self.input.1
    }

    /// The numbers in one group of one image.
    pub(crate) fn group_image(&self) -> usize {
        self.in_channels / self.groups * self.pixels()
    }

    /// The numbers in the output of one group of one image.
    fn group_output(&self) -> usize {
        self.out_channels / self.groups * self.positions()
    }

    #[cfg(test)]
    fn weights(&self) -> usize {
        self.out_channels * self.patch()
    }

    fn is_depthwise(&self) -> bool {
        self.groups == self.in_channels && self.groups == self.out_channels
    }

    /// Whether there are enough images to give every thread its own.
    fn by_image(&self) -> bool {
        self.batch >= rayon::current_num_threads()
    }

    pub(crate) fn check(&self, kernel: &str, x: Option<usize>, w: Option<usize>, y: Option<usize>) {
        assert!(
            self.groups > 0
                && self.in_channels.is_multiple_of(self.groups)
                && self.out_channels.is_multiple_of(self.groups),
            "{kernel}: groups do not divide the channels"
        );
        assert_eq!(Some(self.output), self.window.output(self.input), "{kernel}: output size");
        let [images, maps] = [(self.in_channels, self.input), (self.out_channels, self.output)]
            .map(|(channels, (h, w))| elements(kernel, [self.batch, channels, h, w]));
        let ((kh, kw), (oh, ow)) = (self.window.kernel, self.output);
        let weights = elements(kernel, [self.out_channels, self.in_channels / self.groups, kh, kw]);
        // Nor do patches wrap, which some rungs write down.
        let _ = elements(kernel, [self.in_channels, kh, kw, oh, ow]);
        for (got, want, name) in [(x, images, "x"), (w, weights, "w"), (y, maps, "y")] {
            assert!(got.is_none_or(|got| got == want), "{kernel}: length of {name}");
        }
    }
}

/// y = conv(x, w) + bias.
///
/// # Shape
/// As in [`Conv2d`]; bias: \[out_channels\]
///
/// # Example
/// ```
/// use alcyon_kernels::{conv::{Conv2d, forward}, unfold::Window};
/// let conv = Conv2d::new(1, 1, 1, 1, (1, 3), Window::new((1, 2))).unwrap();
/// let mut y = [0.0; 2];
/// forward(&conv, &[1.0, 2.0, 4.0], &[10.0, 1.0], Some(&[0.5]), &mut y);
/// assert_eq!(y, [12.5, 24.5]);
/// ```
pub fn forward<T: Float>(conv: &Conv2d, x: &[T], w: &[T], bias: Option<&[T]>, y: &mut [T]) {
    assert!(bias.is_none_or(|b| b.len() == conv.out_channels), "conv::forward: length of bias");
    match plan::<T>(conv) {
        Rung::Depthwise => depthwise::forward(conv, x, w, bias, y),
        Rung::Unfolded => unfolded::forward(conv, x, w, bias, y),
        Rung::Winograd => winograd::forward(conv, x, w, bias, y),
    }
}

/// dx, from g = dL/dy.
///
/// # Shape
/// As in [`Conv2d`], g like y and dx like x.
///
/// # Example
/// ```
/// use alcyon_kernels::{conv::{Conv2d, backward_input}, unfold::Window};
/// let conv = Conv2d::new(1, 1, 1, 1, (1, 3), Window::new((1, 2))).unwrap();
/// let mut dx = [0.0; 3];
/// backward_input(&conv, &[1.0, 2.0], &[10.0, 1.0], &mut dx);
/// assert_eq!(dx, [10.0, 21.0, 2.0]);
/// ```
pub fn backward_input<T: Float>(conv: &Conv2d, g: &[T], w: &[T], dx: &mut [T]) {
    match plan::<T>(conv) {
        Rung::Depthwise => depthwise::backward_input(conv, g, w, dx),
        Rung::Unfolded => unfolded::backward_input(conv, g, w, dx),
        Rung::Winograd => winograd::backward_input(conv, g, w, dx),
    }
}

/// dw, from g = dL/dy, summed over images in a fixed order.
///
/// # Shape
/// As in [`Conv2d`], g like y and dw like w.
///
/// # Example
/// ```
/// use alcyon_kernels::{conv::{Conv2d, backward_weight}, unfold::Window};
/// let conv = Conv2d::new(1, 1, 1, 1, (1, 3), Window::new((1, 2))).unwrap();
/// let mut dw = [0.0; 2];
/// backward_weight(&conv, &[1.0, 2.0, 4.0], &[10.0, 1.0], &mut dw);
/// assert_eq!(dw, [12.0, 24.0]);
/// ```
pub fn backward_weight<T: Float>(conv: &Conv2d, x: &[T], g: &[T], dw: &mut [T]) {
    match plan::<T>(conv) {
        Rung::Depthwise => depthwise::backward_weight(conv, x, g, dw),
        Rung::Unfolded => unfolded::backward_weight(conv, x, g, dw),
        Rung::Winograd => winograd::backward_weight(conv, x, g, dw),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::oracle::assert_same_bits_for_any_number_of_threads;
    use crate::oracle::{assert_close, noise, unwritten};
    use proptest::prelude::*;

    type Forward<T> = fn(&Conv2d, &[T], &[T], Option<&[T]>, &mut [T]);
    type Backward<T> = fn(&Conv2d, &[T], &[T], &mut [T]);

    /// The three maps of one rung, and the geometries that it can do.
    struct Maps<T> {
        fits: fn(&Conv2d) -> bool,
        forward: Forward<T>,
        backward_input: Backward<T>,
        backward_weight: Backward<T>,
    }

    macro_rules! maps {
        ($rung:ident, $fits:expr) => {
            Maps {
                fits: $fits,
                forward: $rung::forward,
                backward_input: $rung::backward_input,
                backward_weight: $rung::backward_weight,
            }
        };
    }

    /// Every rung, and the choice among them.
    fn rungs<T: Float>() -> [Maps<T>; 4] {
        let planned = Maps { fits: |_| true, forward, backward_input, backward_weight };
        [
            planned,
            maps!(unfolded, |_| true),
            maps!(depthwise, Conv2d::is_depthwise),
            maps!(winograd, winograd::fits),
        ]
    }

    fn agrees_with_reference<T: Float>(conv: &Conv2d, tolerance: f64) {
        let x = noise::<T>(conv.batch * conv.in_channels * conv.pixels(), 1);
        let w = noise::<T>(conv.weights(), 2);
        let g = noise::<T>(conv.batch * conv.out_channels * conv.positions(), 3);
        let bias = noise::<T>(conv.out_channels, 4);
        for rung in rungs::<T>().iter().filter(|rung| (rung.fits)(conv)) {
            let (mut got, mut want) = (unwritten(g.len()), unwritten(g.len()));
            for bias in [None, Some(&bias[..])] {
                (rung.forward)(conv, &x, &w, bias, &mut got);
                reference::forward(conv, &x, &w, bias, &mut want);
                assert_close(&got, &want, tolerance);
            }
            let (mut got, mut want) = (unwritten(x.len()), unwritten(x.len()));
            (rung.backward_input)(conv, &g, &w, &mut got);
            reference::backward_input(conv, &g, &w, &mut want);
            assert_close(&got, &want, tolerance);
            let (mut got, mut want) = (unwritten(w.len()), unwritten(w.len()));
            (rung.backward_weight)(conv, &x, &g, &mut got);
            reference::backward_weight(conv, &x, &g, &mut want);
            assert_close(&got, &want, tolerance);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn every_rung_agrees_with_the_reference(
            (batch, groups, inputs, outputs) in (0_usize..4, 1_usize..4, 1_usize..4, 1_usize..4),
            input in (1_usize..8, 1_usize..8),
            kernel in (1_usize..4, 1_usize..4),
            stride in (1_usize..4, 1_usize..4),
            padding in (0_usize..4, 0_usize..4),
            dilation in (1_usize..3, 1_usize..3),
        ) {
            let window = Window { kernel, stride, padding, dilation };
            if let Some(conv) =
                Conv2d::new(batch, groups, groups * inputs, groups * outputs, input, window)
            {
                agrees_with_reference::<f64>(&conv, 1e-12);
            }
        }

        #[test]
        fn every_rung_agrees_with_the_reference_on_three_by_three(
            (batch, inputs, outputs) in (0_usize..4, 1_usize..35, 1_usize..35),
            input in (1_usize..12, 1_usize..12),
            padding in (0_usize..4, 0_usize..4),
        ) {
            let window = Window { padding, ..Window::new((3, 3)) };
            if let Some(conv) = Conv2d::new(batch, 1, inputs, outputs, input, window) {
                agrees_with_reference::<f64>(&conv, 1e-11);
            }
        }
    }

    const AROUND: Window = Window { padding: (1, 1), ..Window::new((3, 3)) };

    #[test]
    fn pointwise_depthwise_and_wide_batches_agree_with_the_reference() {
        for (batch, groups, inputs, outputs, window) in [
            (3, 1, 6, 5, Window::new((1, 1))),
            (3, 2, 6, 4, Window { stride: (2, 2), ..Window::new((1, 1)) }),
            (2, 6, 6, 6, AROUND),
            (2, 6, 6, 6, Window { stride: (2, 1), ..AROUND }),
            (37, 1, 2, 3, AROUND),
            (4, 2, 40, 36, Window { stride: (2, 2), ..AROUND }),
            (15, 1, 66, 20, AROUND),
        ] {
            let conv = Conv2d::new(batch, groups, inputs, outputs, (7, 9), window).unwrap();
            agrees_with_reference::<f64>(&conv, 1e-11);
            agrees_with_reference::<f32>(&conv, 1e-3);
        }
    }

    /// ‖got − want‖ / ‖want‖
    fn relative_error(got: &[f32], want: &[f64]) -> f64 {
        let square = |x: f64| x * x;
        let error: f64 = got.iter().zip(want).map(|(&g, &w)| square(f64::from(g) - w)).sum();
        (error / want.iter().map(|&w| square(w)).sum::<f64>()).sqrt()
    }

    #[test]
    fn the_error_in_f32_is_of_the_order_of_rounding() {
        let conv = Conv2d::new(4, 1, 64, 64, (16, 16), AROUND).unwrap();
        let (x, w) = (noise::<f32>(4 * 64 * 256, 1), noise::<f32>(64 * 576, 2));
        let g = noise::<f32>(x.len(), 3);
        let wide = |x: &[f32]| x.iter().map(|&x| f64::from(x)).collect::<Vec<f64>>();
        let (x64, w64, g64) = (wide(&x), wide(&w), wide(&g));
        let mut want = [unwritten(x.len()), unwritten(x.len()), unwritten(w.len())];
        unfolded::forward(&conv, &x64, &w64, None, &mut want[0]);
        unfolded::backward_input(&conv, &g64, &w64, &mut want[1]);
        unfolded::backward_weight(&conv, &x64, &g64, &mut want[2]);
        for rung in rungs::<f32>().iter().filter(|rung| (rung.fits)(&conv)) {
            let mut got = [unwritten(x.len()), unwritten(x.len()), unwritten(w.len())];
            (rung.forward)(&conv, &x, &w, None, &mut got[0]);
            (rung.backward_input)(&conv, &g, &w, &mut got[1]);
            (rung.backward_weight)(&conv, &x, &g, &mut got[2]);
            for (got, want) in got.iter().zip(&want) {
                let error = relative_error(got, want);
                assert!(error < 2e-6, "{error}");
            }
        }
    }

    #[test]
    fn threads_do_not_change_a_convolution() {
        for (batch, groups, channels, stride) in
            [(20, 1, 8, 1), (3, 1, 16, 1), (8, 8, 8, 1), (5, 2, 32, 2), (9, 1, 80, 1)]
        {
            let window = Window { stride: (stride, stride), ..AROUND };
            let conv = Conv2d::new(batch, groups, channels, channels, (20, 20), window).unwrap();
            let x = noise::<f32>(batch * channels * 400, 1);
            let w = noise::<f32>(conv.weights(), 2);
            let g = noise::<f32>(batch * channels * conv.positions(), 3);
            assert_same_bits_for_any_number_of_threads(|| {
                let (mut y, mut dx, mut dw) =
                    (unwritten(g.len()), unwritten(x.len()), unwritten(w.len()));
                forward(&conv, &x, &w, None, &mut y);
                backward_input(&conv, &g, &w, &mut dx);
                backward_weight(&conv, &x, &g, &mut dw);
                [y, dx, dw].concat()
            });
        }
    }
}
