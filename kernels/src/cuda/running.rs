//! Running averages of sums that the host does not look at: whether a sum is finite is found, and heeded,
//! on the device.

use super::device::Gpu;
use super::error::Result;
use super::launch::Grid;
use super::operand::length;
use super::program::{Program, Text};
use super::slice::{Slice, SliceMut};

const TEXT: Text = Text { name: "running", source: include_str!("../../cuda/running.cu") };

/// bad = 1 if a number of x is not finite; else it stays as it is.
///
/// # Shape
/// bad: \[1\], an integer
///
/// # Errors
/// What the driver or the compiler refuses (all functions here).
pub fn look(gpu: &Gpu, x: Slice<'_>, bad: &SliceMut<'_>) -> Result<()> {
    length("look", "bad", bad.len(), &[1])?;
    if x.is_empty() {
        return Ok(());
    }
    let arguments = [x.len().into(), x.into(), bad.into()];
    gpu.launch(&Program::new(TEXT, x.scalar()), "look", Grid::over(x.len()), &arguments)
}

/// F ← F + (x / count − F) / weight, unless `bad` is not 0.
///
/// # Shape
/// x, factor: \[n\] · bad: \[1\], an integer
///
/// # Errors
/// As [`look`].
pub fn average(
    gpu: &Gpu,
    x: Slice<'_>,
    bad: Slice<'_>,
    (count, weight): (f64, f64),
    factor: &SliceMut<'_>,
) -> Result<()> {
    length("average", "bad", bad.len(), &[1])?;
    length("average", "x", x.len(), &[factor.len()])?;
    if x.is_empty() {
        return Ok(());
    }
    let arguments =
        [x.len().into(), x.into(), bad.into(), count.into(), weight.into(), factor.into()];
    gpu.launch(&Program::new(TEXT, x.scalar()), "average", Grid::over(x.len()), &arguments)
}
