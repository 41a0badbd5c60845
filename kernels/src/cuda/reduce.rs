//! Sums and maxima along the middle axis of [outer, n, inner].
//!
//! A long axis is cut into pieces of a fixed length, whose sums are summed again: the order depends
//! on sizes alone, and there is work for many threads.

use super::device::Gpu;
use super::error::Result;
use super::launch::{Arg, Grid};
use super::operand::{length, lengths};
use super::program::{Program, Text};
use super::slice::{Scalar, Slice, SliceMut};
use super::strided;

const TEXT: Text = Text { name: "reduce", source: include_str!("../../cuda/reduce.cu") };

/// The length of a piece.
const CHUNK: usize = 1024;

/// y = scale · Σ x along the middle axis, carried in double and rounded once for each piece.
///
/// # Shape
/// x: \[outer, n, inner\] · y: \[outer, inner\]
///
/// # Errors
/// What the driver or the compiler refuses (all functions here).
pub fn sum(
    gpu: &Gpu,
    x: Slice<'_>,
    (outer, n, inner): (usize, usize, usize),
    scale: f64,
    y: &SliceMut<'_>,
) -> Result<()> {
    length("sum", "x", x.len(), &[outer, n, inner])?;
    length("sum", "y", y.len(), &[outer, inner])?;
    if y.is_empty() || n == 0 {
        // Of nothing the mean is no number: 0 times infinity.
        return strided::fill(gpu, 0.0 * scale, y);
    }
    let pieces = n.div_ceil(CHUNK);
    if pieces == 1 {
        return piecewise(gpu, x, (outer, n, inner), scale, y);
    }
    let scalar = x.scalar().computed_in();
    let mut partial = gpu.memory().numbers(scalar, &[outer, pieces, inner])?;
    let partial = SliceMut::new(&mut partial, scalar, outer * pieces * inner);
    piecewise(gpu, x, (outer, n, inner), 1.0, &partial)?;
    sum(gpu, partial.read(), (outer, pieces, inner), scale, y)
}

fn piecewise(
    gpu: &Gpu,
    x: Slice<'_>,
    (outer, n, inner): (usize, usize, usize),
    scale: f64,
    y: &SliceMut<'_>,
) -> Result<()> {
    let program = Program::new(TEXT, x.scalar()).writing(y.scalar());
    if inner == 1 {
        let arguments = [outer.into(), n.into(), CHUNK.into(), scale.into(), x.into(), y.into()];
        return gpu.launch(&program, "sum_rows", doubles(y.len()), &arguments);
    }
    let arguments =
        [outer.into(), n.into(), inner.into(), CHUNK.into(), scale.into(), x.into(), y.into()];
    gpu.launch(&program, "sum_axis", Grid::over(y.len()), &arguments)
}

/// y = the variance of every row of n numbers, carried in double.
///
/// # Shape
/// x: \[rows, n\] · y: \[rows\]
///
/// # Errors
/// As [`sum`].
pub fn variance(gpu: &Gpu, x: Slice<'_>, n: usize, y: &SliceMut<'_>) -> Result<()> {
    let rows = y.len();
    length("variance", "x", x.len(), &[rows, n])?;
    if rows == 0 {
        return Ok(());
    }
    let arguments = [rows.into(), n.into(), x.into(), y.into()];
    gpu.launch(&Program::new(TEXT, y.scalar()), "variance", doubles(rows), &arguments)
}

/// A block for each result, with a double for every thread.
fn doubles(blocks: usize) -> Grid {
    Grid::blocks(blocks).sharing(Scalar::F64.bytes())
}

/// y = max x along the middle axis, and where it is: as an entry of the axis, or (`flat`) as a place
/// in all of x. The first of equal maxima wins; a NaN wins over every number.
///
/// # Shape
/// x: \[outer, n, inner\], n ≥ 1 · y, at: \[outer, inner\]
///
/// # Errors
/// As [`sum`].
pub fn max(
    gpu: &Gpu,
    x: Slice<'_>,
    (outer, n, inner): (usize, usize, usize),
    flat: bool,
    y: &SliceMut<'_>,
    at: &SliceMut<'_>,
) -> Result<()> {
    length("max", "x", x.len(), &[outer, n, inner])?;
    lengths("max", &[outer, inner], [("y", y.len()), ("at", at.len())])?;
    if n == 0 {
        length("max, of an empty axis,", "y", y.len(), &[0])?;
    }
    if y.is_empty() {
        return Ok(());
    }
    let flat: Arg = i32::from(flat).into();
    let arguments = [outer.into(), n.into(), inner.into(), flat, x.into(), y.into(), at.into()];
    gpu.launch(&Program::new(TEXT, y.scalar()), "max_axis", Grid::over(y.len()), &arguments)
}
