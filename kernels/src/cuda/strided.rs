//! Copies of views, one number everywhere, runs laid side by side, and choices.

use super::device::Gpu;
use super::error::Result;
use super::launch::{Dims, Grid};
use super::pairs::extent;
use super::program::{Program, Text};
use super::slice::{Scalar, Slice, SliceMut};

const TEXT: Text = Text { name: "strided", source: include_str!("../../cuda/strided.cu") };

/// y = the elements of a view, in row-major order.
///
/// # Errors
/// What the driver or the compiler refuses (all functions here).
pub fn copy(
    gpu: &Gpu,
    shape: &[usize],
    strides: &[usize],
    x: Slice<'_>,
    y: &SliceMut<'_>,
) -> Result<()> {
    let n = y.len();
    assert_eq!(n, shape.iter().product(), "cuda copy: output length");
    assert!(extent(shape, strides) <= x.len(), "cuda copy: beyond the input");
    if n == 0 {
        return Ok(());
    }
    let arguments = [Dims::new(shape, &[strides]).into(), n.into(), x.into(), y.into()];
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
    assert!(start + run <= row && n.is_multiple_of(run), "cuda lay: a run beyond its row");
    assert_eq!(y.len(), n / run * row, "cuda lay: output length");
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
    assert_eq!([condition.len(), a.len(), b.len()], [n; 3], "cuda choose: lengths");
    assert_eq!(condition.scalar(), Scalar::I64, "cuda choose: the condition's type");
    if n == 0 {
        return Ok(());
    }
    let arguments = [n.into(), condition.into(), a.into(), b.into(), y.into()];
    gpu.launch(&Program::new(TEXT, y.scalar()), "choose", Grid::over(n), &arguments)
}
