//! Images at another resolution, and the adjoint. Formulas: the module of this name for the CPU.

use super::device::Gpu;
use super::error::Result;
use super::launch::{Arg, Grid};
use super::operand::length;
use super::program::{Program, Text};
use super::slice::{Slice, SliceMut};
use crate::interpolate::Sampling;
use crate::sizes;

const TEXT: Text = Text { name: "interpolate", source: include_str!("../../cuda/interpolate.cu") };

/// Every plane of x at another resolution, of (h, w) to (rows, columns).
///
/// # Shape
/// x: \[planes, h, w\] · y: \[planes, rows, columns\]
///
/// # Errors
/// What the driver or the compiler refuses (all functions here).
pub fn forward(
    gpu: &Gpu,
    how: Sampling,
    sizes: [(usize, usize); 2],
    x: Slice<'_>,
    y: &SliceMut<'_>,
) -> Result<()> {
    launch(gpu, "interpolate", how, sizes, [x.len(), y.len()], [x.into(), y.into()], y)
}

/// The adjoint of [`forward`]: dx from g. The sizes are those of [`forward`].
///
/// # Shape
/// g: \[planes, rows, columns\] · dx: \[planes, h, w\]
///
/// # Errors
/// As [`forward`].
pub fn backward(
    gpu: &Gpu,
    how: Sampling,
    sizes: [(usize, usize); 2],
    g: Slice<'_>,
    dx: &SliceMut<'_>,
) -> Result<()> {
    launch(gpu, "interpolate_input", how, sizes, [dx.len(), g.len()], [g.into(), dx.into()], dx)
}

fn launch(
    gpu: &Gpu,
    kernel: &'static str,
    how: Sampling,
    [(h, w), (rows, columns)]: [(usize, usize); 2],
    [image, result]: [usize; 2],
    [from, to]: [Arg; 2],
    out: &SliceMut<'_>,
) -> Result<()> {
    let pixels = sizes::product(&[h, w]).unwrap_or(0);
    let planes = image.checked_div(pixels).unwrap_or(0);
    length("interpolate", "the image", image, &[planes, h, w])?;
    length("interpolate", "the result", result, &[planes, rows, columns])?;
    if out.is_empty() {
        return Ok(());
    }
    let how = match how {
        Sampling::Nearest => 0,
        Sampling::Linear => 1,
        Sampling::LinearAligned => 2,
    };
    let arguments =
        [planes.into(), h.into(), w.into(), rows.into(), columns.into(), Arg::Int(how), from, to];
    gpu.launch(&Program::new(TEXT, out.scalar()), kernel, Grid::over(out.len()), &arguments)
}
