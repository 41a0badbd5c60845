//! Images as columns of patches, what a convolution multiplies its weight with: im2col (Chellapilla, Puri &
//! Simard 2006).

use super::conv::unfolded::TEXT;
use super::conv::{image, sizes};
use super::device::Gpu;
use super::error::Result;
use super::launch::Grid;
use super::operand::length;
use super::program::Program;
use super::slice::{Slice, SliceMut};
use crate::conv::Conv2d;

/// y\[channel · tap, image · position\]: a group's channels are neighbouring rows.
///
/// # Shape
/// x: \[N, C, H, W\] · y: \[C · KH · KW, N · OH · OW\]
///
/// # Errors
/// What the driver or the compiler refuses.
pub fn patches(gpu: &Gpu, conv: &Conv2d, x: Slice<'_>, y: &SliceMut<'_>) -> Result<()> {
    sizes("patches", conv, Some(x.len()), None, None)?;
    let ((kh, kw), (oh, ow)) = (conv.window.kernel, conv.output);
    let columns = conv.batch * conv.positions();
    length("patches", "y", y.len(), &[conv.in_channels, kh, kw, conv.batch, oh, ow])?;
    if y.is_empty() {
        return Ok(());
    }
    let arguments =
        [image(conv)?.into(), conv.positions().into(), columns.into(), x.into(), y.into()];
    let grid = Grid::over(conv.in_channels * columns);
    gpu.launch(&Program::new(TEXT, y.scalar()), "unfold", grid, &arguments)
}
