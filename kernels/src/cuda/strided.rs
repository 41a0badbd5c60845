//! Copies of views, one number everywhere, runs laid side by side, and choices.

use super::device::Gpu;
use super::error::Result;
use super::launch::{Dims, Grid};
use super::operand::{length, lengths, rows, view};
use super::program::{Program, Text};
use super::slice::{Slice, SliceMut};

const TEXT: Text = Text { name: "strided", source: include_str!("../../cuda/strided.cu") };

/// y = the elements of a view, in row-major order.
///
/// # Errors
/// [`CudaError`](super::CudaError) of operands unlike each other, and what the driver or the compiler refuses (all
/// functions here).
pub fn copy(
    gpu: &Gpu,
    shape: &[usize],
    strides: &[usize],
    x: Slice<'_>,
    y: &SliceMut<'_>,
) -> Result<()> {
    let n = y.len();
    length("copy", "y", n, shape)?;
    view("copy", "x", x.len(), shape, strides)?;
    if n == 0 {
        return Ok(());
    }
    let arguments = [Dims::new(shape, &[strides])?.into(), n.into(), x.into(), y.into()];
    gpu.launch(&Program::new(TEXT, y.scalar()), "copy", Grid::over(n), &arguments)
}

/// y = a number (rounded to the type) everywhere.
///
/// # Errors
/// As [`copy`].
pub fn fill(gpu: &Gpu, value: f64, y: &SliceMut<'_>) -> Result<()> {
    let n = y.len();
    if n == 0 {
        return Ok(());
    }
    let arguments = [n.into(), y.into(), value.into()];
    gpu.launch(&Program::new(TEXT, y.scalar()), "fill", Grid::over(n), &arguments)
}

/// Runs of `run` elements of x, each into a row of `row` elements of y from place `start` on. Other
/// places of y are left as they are.
///
/// # Errors
/// As [`copy`].
pub fn lay(
    gpu: &Gpu,
    run: usize,
    row: usize,
    start: usize,
    x: Slice<'_>,
    y: &SliceMut<'_>,
) -> Result<()> {
    let n = x.len();
    if n == 0 {
        return Ok(());
    }
    let runs = rows("lay", "x", n, run)?;
    view("lay", "a row", row.saturating_sub(start), &[run], &[1])?;
    length("lay", "y", y.len(), &[runs, row])?;
    let arguments = [n.into(), run.into(), row.into(), start.into(), x.into(), y.into()];
    gpu.launch(&Program::new(TEXT, y.scalar()), "lay", Grid::over(n), &arguments)
}

/// y = a where the condition is not 0, else b.
///
/// # Errors
/// As [`copy`].
pub fn choose(
    gpu: &Gpu,
    condition: Slice<'_>,
    a: Slice<'_>,
    b: Slice<'_>,
    y: &SliceMut<'_>,
) -> Result<()> {
    let n = y.len();
    let all = [("condition", condition.len()), ("a", a.len()), ("b", b.len())];
    lengths("choose", &[n], all)?;
    if n == 0 {
        return Ok(());
    }
    let arguments = [n.into(), condition.into(), a.into(), b.into(), y.into()];
    gpu.launch(&Program::new(TEXT, y.scalar()), "choose", Grid::over(n), &arguments)
}
