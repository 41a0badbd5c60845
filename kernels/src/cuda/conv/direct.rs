//! Convolution and its two gradients, each by its definition: a thread for each output and each pixel, a
//! block for each weight. Right where a sum is short (depthwise), and the reference everywhere.

use super::image;
use crate::conv::Conv2d;
use crate::cuda::device::Gpu;
use crate::cuda::error::Result;
use crate::cuda::launch::Grid;
use crate::cuda::program::{Program, Text};
use crate::cuda::slice::{Slice, SliceMut};

const TEXT: Text = Text { name: "conv", source: include_str!("../../../cuda/conv.cu") };

/// [`conv::forward`](super::forward) by this rung.
///
/// # Errors
/// As there (all functions here).
pub fn forward(
    gpu: &Gpu,
    conv: &Conv2d,
    x: Slice<'_>,
    weight: Slice<'_>,
    bias: Option<Slice<'_>>,
    y: &SliceMut<'_>,
) -> Result<()> {
    super::check(conv, (x, weight, y.read()), (bias, conv.out_channels))?;
    let arguments = [image(conv)?.into(), x.into(), weight.into(), bias.into(), y.into()];
    gpu.launch(&Program::new(TEXT, y.scalar()), "conv_forward", Grid::over(y.len()), &arguments)
}

/// [`conv::backward_input`](super::backward_input) by this rung.
///
/// # Errors
/// As [`forward`].
pub fn backward_input(
    gpu: &Gpu,
    conv: &Conv2d,
    g: Slice<'_>,
    weight: Slice<'_>,
    bias: Option<Slice<'_>>,
    dx: &SliceMut<'_>,
) -> Result<()> {
    super::check(conv, (dx.read(), weight, g), (bias, conv.in_channels))?;
    let arguments = [image(conv)?.into(), g.into(), weight.into(), bias.into(), dx.into()];
    gpu.launch(&Program::new(TEXT, dx.scalar()), "conv_input", Grid::over(dx.len()), &arguments)
}

/// [`conv::backward_weight`](super::backward_weight) by this rung.
///
/// # Errors
/// As [`forward`].
pub fn backward_weight(
    gpu: &Gpu,
    conv: &Conv2d,
    x: Slice<'_>,
    g: Slice<'_>,
    dw: &SliceMut<'_>,
) -> Result<()> {
    super::check(conv, (x, dw.read(), g), (None, 0))?;
    let arguments = [image(conv)?.into(), x.into(), g.into(), dw.into()];
    let grid = Grid::blocks(dw.len()).sharing(dw.scalar().computed_in().bytes());
    gpu.launch(&Program::new(TEXT, dw.scalar()), "conv_weight", grid, &arguments)
}
