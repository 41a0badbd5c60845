//! Sums of squares along an axis.

use kernels::Float;
use kernels::conv::Conv2d;

/// Σ over rows of x².
pub(crate) fn column_squares<T: Float>(x: &[T], _rows: usize, width: usize, out: &mut [T]) {
    out.fill(T::ZERO);
    for row in x.chunks_exact(width.max(1)) {
        out.iter_mut().zip(row).for_each(|(o, &v)| *o += v * v);
    }
}

/// Σ over n, s of x² for x [n, c, s].
pub(crate) fn channel_squares<T: Float>(x: &[T], _n: usize, c: usize, s: usize, out: &mut [T]) {
    out.fill(T::ZERO);
    for (i, plane) in x.chunks_exact(s.max(1)).enumerate() {
        plane.iter().for_each(|&v| out[i % c] += v * v);
    }
}

/// Σ over images and positions of patch².
pub(crate) fn patch_squares<T: Float>(conv: &Conv2d, x: &[T], out: &mut [T]) {
    out.fill(T::ZERO);
    let (h, w) = conv.input;
    let positions = (conv.output.0 * conv.output.1).max(1);
    let mut columns = vec![T::ZERO; out.len() * positions];
    for image in x.chunks_exact((conv.in_channels * h * w).max(1)) {
        kernels::unfold::unfold(image, conv.in_channels, h, w, &conv.window, &mut columns);
        for (o, column) in out.iter_mut().zip(columns.chunks_exact(positions)) {
            column.iter().for_each(|&v| *o += v * v);
        }
    }
}
