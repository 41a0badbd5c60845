//! Images as rows of patches, what a convolution multiplies its weight with.

use super::conv::image;
use super::device::Gpu;
use super::error::Result;
use super::launch::Grid;
use super::program::{Program, Text};
use super::slice::{Slice, SliceMut};
use crate::conv::Conv2d;

const TEXT: Text = Text { name: "patches", source: include_str!("../../cuda/patches.cu") };

/// y\[image · position, channel · tap\]: the patches of the channels of one group.
///
/// # Shape
/// x: \[N, C, H, W\] · y: \[N · OH · OW, C/groups · KH · KW\]
///
/// # Errors
/// What the driver or the compiler refuses.
pub fn patches(
    gpu: &Gpu,
    conv: &Conv2d,
    group: usize,
    x: Slice<'_>,
    y: &SliceMut<'_>,
) -> Result<()> {
    let (height, width) = conv.input;
    assert_eq!(x.len(), conv.batch * conv.in_channels * height * width, "cuda patches: x");
    assert_eq!(y.len(), conv.batch * conv.positions() * conv.patch(), "cuda patches: y");
    assert!(group < conv.groups && x.scalar() == y.scalar(), "cuda patches: group and type");
    if y.is_empty() {
        return Ok(());
    }
    let arguments = [image(conv).into(), group.into(), x.into(), y.into()];
    gpu.launch(&Program::new(TEXT, y.scalar()), "patches", Grid::over(y.len()), &arguments)
}
