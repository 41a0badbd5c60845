//! Along the middle axis of [outer, n, inner]: entries picked by an index of their own, and added
//! back; running sums.

use super::device::Gpu;
use super::error::Result;
use super::launch::Grid;
use super::program::{Program, Text};
use super::slice::{Slice, SliceMut};
use super::{index, strided};

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
    assert_eq!((x.len(), y.len()), (outer * n * inner, index.len()), "cuda take: lengths");
    let k = index.len().checked_div(outer * inner).unwrap_or(0);
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
    assert_eq!((x.len(), y.len()), (index.len(), outer * n * inner), "cuda add along: lengths");
    strided::fill(gpu, 0.0, y)?;
    let (grid, k) =
        (Grid::over(outer * inner), index.len().checked_div(outer * inner).unwrap_or(0));
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
    assert_eq!([x.len(), y.len()], [outer * n * inner; 2], "cuda running sum: lengths");
    if y.is_empty() {
        return Ok(());
    }
    let from_the_end = i32::from(from_the_end).into();
    let arguments = [outer.into(), n.into(), inner.into(), from_the_end, x.into(), y.into()];
    gpu.launch(&Program::new(TEXT, y.scalar()), "running", Grid::over(outer * inner), &arguments)
}
