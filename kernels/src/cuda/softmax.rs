//! softmax, its logarithm and cross-entropy along rows, with their gradients. Formulas: the module of
//! this name for the CPU.

use super::device::Gpu;
use super::error::Result;
use super::launch::Grid;
use super::operand::{length, lengths, rows};
use super::program::{Program, Text};
use super::slice::{Slice, SliceMut};

const TEXT: Text = Text { name: "softmax", source: include_str!("../../cuda/softmax.cu") };

/// y = softmax(x) along rows of `width` numbers, or (`log`) its logarithm.
///
/// # Errors
/// What the driver or the compiler refuses (all functions here).
pub fn forward(gpu: &Gpu, log: bool, width: usize, x: Slice<'_>, y: &SliceMut<'_>) -> Result<()> {
    length("softmax", "x", x.len(), &[y.len()])?;
    if y.is_empty() {
        return Ok(());
    }
    let rows = rows("softmax", "y", y.len(), width)?;
    let kernel = if log { "log_softmax" } else { "softmax" };
    let arguments = [rows.into(), width.into(), x.into(), y.into()];
    gpu.launch(&Program::new(TEXT, y.scalar()), kernel, grid(rows, y), &arguments)
}

/// y = ln Σ eˣ of every row of `width` numbers.
///
/// # Errors
/// As [`forward`].
pub fn log_sum_exp(gpu: &Gpu, width: usize, x: Slice<'_>, y: &SliceMut<'_>) -> Result<()> {
    let rows = y.len();
    length("log sum exp", "x", x.len(), &[rows, width])?;
    if rows == 0 {
        return Ok(());
    }
    let arguments = [rows.into(), width.into(), x.into(), y.into()];
    gpu.launch(&Program::new(TEXT, y.scalar()), "log_sum_exp", grid(rows, y), &arguments)
}

/// dx from y and g, for [`forward`].
///
/// # Errors
/// As [`forward`].
pub fn backward(
    gpu: &Gpu,
    log: bool,
    width: usize,
    y: Slice<'_>,
    g: Slice<'_>,
    dx: &SliceMut<'_>,
) -> Result<()> {
    lengths("softmax backward", &[dx.len()], [("y", y.len()), ("g", g.len())])?;
    if dx.is_empty() {
        return Ok(());
    }
    let rows = rows("softmax backward", "dx", dx.len(), width)?;
    let kernel = if log { "log_softmax_backward" } else { "softmax_backward" };
    let arguments = [rows.into(), width.into(), y.into(), g.into(), dx.into()];
    gpu.launch(&Program::new(TEXT, dx.scalar()), kernel, grid(rows, dx), &arguments)
}

/// y = −(1/R) Σᵣ log p\[r, labels\[r\]\] with p = softmax(x); writes log p, too. Labels are checked
/// elsewhere: [`super::index::check`].
///
/// # Shape
/// x, log p: \[R, width\] · labels: \[R\], R ≥ 1 · y: one number
///
/// # Errors
/// As [`forward`].
pub fn cross_entropy(
    gpu: &Gpu,
    width: usize,
    x: Slice<'_>,
    labels: Slice<'_>,
    log_p: &SliceMut<'_>,
    y: &SliceMut<'_>,
) -> Result<()> {
    let rows = labels.len();
    lengths("cross-entropy", &[rows, width], [("x", x.len()), ("log p", log_p.len())])?;
    length("cross-entropy", "y", y.len(), &[1])?;
    let scalar = y.scalar();
    let program = Program::new(TEXT, scalar);
    let mut losses = gpu.memory().numbers(scalar, &[rows])?;
    let losses = SliceMut::new(&mut losses, scalar, rows);
    let arguments =
        [rows.into(), width.into(), x.into(), labels.into(), log_p.into(), (&losses).into()];
    gpu.launch(&program, "cross_entropy", grid(rows, y), &arguments)?;
    let arguments = [rows.into(), losses.read().into(), y.into()];
    gpu.launch(&program, "mean", grid(1, y), &arguments)
}

/// dx = (p − one-hot) g / R, from log p.
///
/// # Errors
/// As [`forward`].
pub fn cross_entropy_backward(
    gpu: &Gpu,
    width: usize,
    log_p: Slice<'_>,
    labels: Slice<'_>,
    g: Slice<'_>,
    dx: &SliceMut<'_>,
) -> Result<()> {
    let rows = labels.len();
    let all = [("log p", log_p.len()), ("dx", dx.len())];
    lengths("cross-entropy backward", &[rows, width], all)?;
    length("cross-entropy backward", "g", g.len(), &[1])?;
    let arguments = [rows.into(), width.into(), log_p.into(), labels.into(), g.into(), dx.into()];
    let grid = Grid::over(dx.len());
    gpu.launch(&Program::new(TEXT, dx.scalar()), "cross_entropy_backward", grid, &arguments)
}

fn grid(rows: usize, y: &SliceMut<'_>) -> Grid {
    Grid::blocks(rows).sharing(y.scalar().bytes())
}
