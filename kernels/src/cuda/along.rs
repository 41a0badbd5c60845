//! Along the middle axis of [outer, n, inner]: entries picked by an index of their own, and added
//! back; running sums.

use super::device::Gpu;
use super::error::Result;
use super::launch::Grid;
use super::operand::{length, lengths};
use super::program::{Program, Text};
use super::slice::{Slice, SliceMut};
use super::{index, strided};
use crate::sizes;

const TEXT: Text = Text { name: "along", source: include_str!("../../cuda/along.cu") };

/// y\[o, i, j\] = x\[o, index\[o, i, j\], j\].
///
/// # Shape
/// x: \[outer, n, inner\] · index, y: \[outer, k, inner\]
///
/// # Errors
/// What the driver or the compiler refuses (all functions here).
pub fn take(
    gpu: &Gpu,
    x: Slice<'_>,
    (outer, n, inner): (usize, usize, usize),
    index: Slice<'_>,
    y: &SliceMut<'_>,
) -> Result<()> {
    length("take", "x", x.len(), &[outer, n, inner])?;
    let k = taken("take", (outer, inner), [("index", index.len()), ("y", y.len())])?;
    index::launch(gpu, (TEXT, "take"), Grid::over(y.len()), (outer, n, inner, k), [x, index], y)
}

/// y\[o, v, j\] = Σ x\[o, i, j\] over all i with index\[o, i, j\] = v, in order: the adjoint of [`take`].
///
/// # Shape
/// x, index: \[outer, k, inner\] · y: \[outer, n, inner\]
///
/// # Errors
/// As [`take`].
pub fn add(
    gpu: &Gpu,
    x: Slice<'_>,
    (outer, n, inner): (usize, usize, usize),
    index: Slice<'_>,
    y: &SliceMut<'_>,
) -> Result<()> {
    length("add along", "y", y.len(), &[outer, n, inner])?;
    let k = taken("add along", (outer, inner), [("index", index.len()), ("x", x.len())])?;
    strided::fill(gpu, 0.0, y)?;
    let grid = Grid::over(outer * inner);
    index::launch(gpu, (TEXT, "add"), grid, (outer, n, inner, k), [x, index], y)
}

/// yᵢ = the sum of all x up to and including i, or (`from_the_end`) from i on.
///
/// # Errors
/// As [`take`].
pub fn running(
    gpu: &Gpu,
    x: Slice<'_>,
    (outer, n, inner): (usize, usize, usize),
    from_the_end: bool,
    y: &SliceMut<'_>,
) -> Result<()> {
    lengths("running sum", &[outer, n, inner], [("x", x.len()), ("y", y.len())])?;
    if y.is_empty() {
        return Ok(());
    }
    let from_the_end = i32::from(from_the_end).into();
    let arguments = [outer.into(), n.into(), inner.into(), from_the_end, x.into(), y.into()];
    gpu.launch(&Program::new(TEXT, y.scalar()), "running", Grid::over(outer * inner), &arguments)
}

/// How many entries are taken along the axis, of which there are as many in both operands.
fn taken(
    kernel: &'static str,
    (outer, inner): (usize, usize),
    [first, second]: [(&'static str, usize); 2],
) -> Result<usize> {
    let columns = sizes::product(&[outer, inner]).unwrap_or(0);
    let k = first.1.checked_div(columns).unwrap_or(0);
    lengths(kernel, &[outer, k, inner], [first, second])?;
    Ok(k)
}
