//! Depthwise convolution, one channel per group: a tap is one number, so every row of results is a sum
//! of shifted rows of the image.

use super::Conv2d;
use crate::float::Float;
use crate::parallel;
use crate::reduce::dot_lanes;

/// [`conv::forward`](super::forward) by this rung.
pub fn forward<T: Float>(conv: &Conv2d, x: &[T], w: &[T], bias: Option<&[T]>, y: &mut [T]) {
    conv.check("conv::depthwise::forward", Some(x.len()), Some(w.len()), Some(y.len()));
    let (p, d, pixels) = (conv.positions(), conv.patch(), conv.pixels());
    parallel::rows(y, p, d * p, |plane, y| {
        let (x, c) = (&x[plane * pixels..(plane + 1) * pixels], plane % conv.groups);
        y.fill(bias.map_or(T::ZERO, |bias| bias[c]));
        conv.window.each_run(conv.input, conv.output, |tap, pixel, position, count| {
            let w = w[c * d + tap];
            let x = x[pixel..].iter().step_by(conv.window.stride.1);
            for (y, &x) in y[position..position + count].iter_mut().zip(x) {
                *y += w * x;
            }
        });
    });
}

/// [`conv::backward_input`](super::backward_input) by this rung.
pub fn backward_input<T: Float>(conv: &Conv2d, g: &[T], w: &[T], dx: &mut [T]) {
    conv.check("conv::depthwise::backward_input", Some(dx.len()), Some(w.len()), Some(g.len()));
    let (p, d, pixels) = (conv.positions(), conv.patch(), conv.pixels());
    parallel::rows(dx, pixels, d * p, |plane, dx| {
        dx.fill(T::ZERO);
        let (g, c) = (&g[plane * p..(plane + 1) * p], plane % conv.groups);
        conv.window.each_run(conv.input, conv.output, |tap, pixel, position, count| {
            let w = w[c * d + tap];
            let dx = dx[pixel..].iter_mut().step_by(conv.window.stride.1);
            for (dx, &g) in dx.zip(&g[position..position + count]) {
                *dx += w * g;
            }
        });
    });
}

/// [`conv::backward_weight`](super::backward_weight) by this rung: dw\[c, tap\] = Σ over images and
/// positions of g · x under the tap.
pub fn backward_weight<T: Float>(conv: &Conv2d, x: &[T], g: &[T], dw: &mut [T]) {
    conv.check("conv::depthwise::backward_weight", Some(x.len()), Some(dw.len()), Some(g.len()));
    let (p, d, pixels, stride) =
        (conv.positions(), conv.patch(), conv.pixels(), conv.window.stride.1);
    parallel::rows(dw, d, conv.batch * p * d, |c, dw| {
        dw.fill(T::ZERO);
        for plane in (0..conv.batch).map(|n| n * conv.groups + c) {
            let (x, g) = (&x[plane * pixels..(plane + 1) * pixels], &g[plane * p..(plane + 1) * p]);
            conv.window.each_run(conv.input, conv.output, |tap, pixel, position, count| {
                let g = &g[position..position + count];
                dw[tap] += if stride == 1 {
                    dot_lanes(g, &x[pixel..pixel + count])
                } else {
                    g.iter().zip(x[pixel..].iter().step_by(stride)).map(|(&g, &x)| g * x).sum()
                };
            });
        }
    });
}
