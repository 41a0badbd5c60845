//! Two-dimensional convolution and its two gradients, each computed by its definition.

use super::device::Gpu;
use super::error::Result;
use super::launch::{Grid, Image};
use super::program::{Program, Text};
use super::slice::{Slice, SliceMut};
use crate::conv::Conv2d;

const TEXT: Text = Text { name: "conv", source: include_str!("../../cuda/conv.cu") };

/// y = x ⋆ W + b.
///
/// # Shape
/// x: \[N, C, H, W\] · weight: \[O, C/groups, KH, KW\] · bias: \[O\] · y: \[N, O, OH, OW\]
///
/// # Errors
/// What the driver or the compiler refuses (all functions here).
pub fn forward(
    gpu: &Gpu,
    sizes: &Conv2d,
    x: Slice<'_>,
    weight: Slice<'_>,
    bias: Option<Slice<'_>>,
    y: &SliceMut<'_>,
) -> Result<()> {
    check(sizes, x.len(), weight.len(), y.len());
    assert!(bias.is_none_or(|b| b.len() == sizes.out_channels), "cuda conv: bias");
    if y.is_empty() {
        return Ok(());
    }
    let arguments = [image(sizes).into(), x.into(), weight.into(), bias.into(), y.into()];
    gpu.launch(&Program::new(TEXT, y.scalar()), "conv_forward", Grid::over(y.len()), &arguments)
}

/// dx from g and W.
///
/// # Errors
/// As [`forward`].
pub fn backward_input(
    gpu: &Gpu,
    sizes: &Conv2d,
    g: Slice<'_>,
    weight: Slice<'_>,
    dx: &SliceMut<'_>,
) -> Result<()> {
    check(sizes, dx.len(), weight.len(), g.len());
    if dx.is_empty() {
        return Ok(());
    }
    let arguments = [image(sizes).into(), g.into(), weight.into(), dx.into()];
    gpu.launch(&Program::new(TEXT, dx.scalar()), "conv_input", Grid::over(dx.len()), &arguments)
}

/// dW from x and g.
///
/// # Errors
/// As [`forward`].
pub fn backward_weight(
    gpu: &Gpu,
    sizes: &Conv2d,
    x: Slice<'_>,
    g: Slice<'_>,
    dw: &SliceMut<'_>,
) -> Result<()> {
    check(sizes, x.len(), dw.len(), g.len());
    if dw.is_empty() {
        return Ok(());
    }
    let arguments = [image(sizes).into(), x.into(), g.into(), dw.into()];
    let grid = Grid::blocks(dw.len()).sharing(dw.scalar().bytes());
    gpu.launch(&Program::new(TEXT, dw.scalar()), "conv_weight", grid, &arguments)
}

fn check(sizes: &Conv2d, x: usize, weight: usize, y: usize) {
    let Conv2d { batch, in_channels, out_channels, input, output, .. } = *sizes;
    assert_eq!(x, batch * in_channels * input.0 * input.1, "cuda conv: x");
    assert_eq!(weight, out_channels * sizes.patch(), "cuda conv: weight");
    assert_eq!(y, batch * out_channels * output.0 * output.1, "cuda conv: y");
}

/// The sizes as kernels take them.
pub(super) fn image(sizes: &Conv2d) -> Image {
    let channels = (sizes.batch, sizes.in_channels, sizes.out_channels, sizes.groups);
    Image::new(channels, sizes.input, &sizes.window, sizes.output)
}
