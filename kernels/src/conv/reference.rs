//! Convolution and its gradients by the definition: one loop over all products of the sum.

use super::Conv2d;
use crate::float::Float;

/// [`conv::forward`](super::forward) by the definition.
pub fn forward<T: Float>(conv: &Conv2d, x: &[T], w: &[T], bias: Option<&[T]>, y: &mut [T]) {
    conv.check("conv::reference::forward", Some(x.len()), Some(w.len()), Some(y.len()));
    for (plane, y) in y.chunks_exact_mut(conv.positions()).enumerate() {
        y.fill(bias.map_or(T::ZERO, |bias| bias[plane % conv.out_channels]));
    }
    each_triple(conv, |at_y, at_x, at_w| y[at_y] += x[at_x] * w[at_w]);
}

/// [`conv::backward_input`](super::backward_input) by the definition.
pub fn backward_input<T: Float>(conv: &Conv2d, g: &[T], w: &[T], dx: &mut [T]) {
    conv.check("conv::reference::backward_input", Some(dx.len()), Some(w.len()), Some(g.len()));
    dx.fill(T::ZERO);
    each_triple(conv, |at_y, at_x, at_w| dx[at_x] += g[at_y] * w[at_w]);
}

/// [`conv::backward_weight`](super::backward_weight) by the definition.
pub fn backward_weight<T: Float>(conv: &Conv2d, x: &[T], g: &[T], dw: &mut [T]) {
    conv.check("conv::reference::backward_weight", Some(x.len()), Some(dw.len()), Some(g.len()));
    dw.fill(T::ZERO);
    each_triple(conv, |at_y, at_x, at_w| dw[at_w] += g[at_y] * x[at_x]);
}

/// Calls `f(index into y, into x, into w)` for every product in the convolution. All three
/// reference functions are this loop; they differ in which of the three they add to.
fn each_triple(conv: &Conv2d, mut f: impl FnMut(usize, usize, usize)) {
    let ((h, w), (oh, ow), window) = (conv.input, conv.output, conv.window);
    let (kh, kw) = window.kernel;
    let (inputs, outputs) = (conv.in_channels / conv.groups, conv.out_channels / conv.groups);
    let pixel = |position: usize, stride: usize, tap: usize, dilation: usize, padding: usize| {
        (position * stride + tap * dilation).checked_sub(padding)
    };
    for n in 0..conv.batch {
        for o in 0..conv.out_channels {
            for position in 0..oh * ow {
                for tap in 0..inputs * kh * kw {
                    let (c, i, j) = (tap / (kh * kw), tap / kw % kh, tap % kw);
                    let (s, d, p) = (window.stride, window.dilation, window.padding);
                    let row = pixel(position / ow, s.0, i, d.0, p.0).filter(|&row| row < h);
                    let column =
                        pixel(position % ow, s.1, j, d.1, p.1).filter(|&column| column < w);
                    if let Some((row, column)) = row.zip(column) {
                        let channel = n * conv.in_channels + o / outputs * inputs + c;
                        f(
                            (n * conv.out_channels + o) * oh * ow + position,
                            (channel * h + row) * w + column,
                            o * inputs * kh * kw + tap,
                        );
                    }
                }
            }
        }
    }
}
