//! Dropout with the CPU's random numbers: the mask of (seed, stream) is the same on every device.

use super::device::Gpu;
use super::error::Result;
use super::launch::Grid;
use super::operand::lengths;
use super::program::{Program, Text};
use super::slice::{Slice, SliceMut};

const TEXT: Text = Text { name: "dropout", source: include_str!("../../cuda/dropout.cu") };

/// mask = 0 with probability p, else 1 / (1 − p); y = mask ∘ x.
///
/// # Errors
/// What the driver or the compiler refuses.
pub fn dropout(
    gpu: &Gpu,
    p: f64,
    [seed, stream]: [u64; 2],
    x: Slice<'_>,
    y: &SliceMut<'_>,
    mask: &SliceMut<'_>,
) -> Result<()> {
    let n = y.len();
    lengths("dropout", &[n], [("x", x.len()), ("mask", mask.len())])?;
    if n == 0 {
        return Ok(());
    }
    let shift = gpu.capturing().seed_shift();
    let arguments =
        [n.into(), p.into(), seed.into(), shift, stream.into(), x.into(), y.into(), mask.into()];
    gpu.launch(&Program::new(TEXT, y.scalar()), "dropout", Grid::over(n), &arguments)
}
