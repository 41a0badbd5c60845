//! Entries of the middle axis of [outer, n, inner] picked by number, and added back.
//!
//! An index out of range cannot be an error at once: the host does not wait for the device. It is
//! noted there and becomes the error of the next read.

use super::device::Gpu;
use super::error::Result;
use super::launch::{Grid, THREADS};
use super::operand::{length, scalar};
use super::program::{Program, Text};
use super::slice::{Scalar, Slice, SliceMut};
use super::strided;

const TEXT: Text = Text { name: "index", source: include_str!("../../cuda/index.cu") };

/// Notes the first index that is not in 0..`bound`: the next read fails with it, in the name of `op`.
///
/// # Errors
/// What the driver or the compiler refuses (all functions here).
pub fn check(gpu: &Gpu, op: &'static str, index: Slice<'_>, bound: usize) -> Result<()> {
    scalar("index check", "index", index.scalar(), Scalar::I64)?;
    if index.is_empty() {
        return Ok(());
    }
    gpu.faults().asked_by(gpu, op, |asker, fault| {
        let arguments = [index.len().into(), bound.into(), asker.into(), index.into(), fault];
        let grid = Grid { blocks: 1, threads: THREADS, shared: THREADS * 8 };
        gpu.launch(&Program::new(TEXT, Scalar::I64), "check", grid, &arguments)
    })
}

/// y\[o, i, j\] = x\[o, index\[i\], j\].
///
/// # Shape
/// x: \[outer, n, inner\] · index: \[k\] · y: \[outer, k, inner\]
///
/// # Errors
/// As [`check`].
pub fn gather(
    gpu: &Gpu,
    x: Slice<'_>,
    (outer, n, inner): (usize, usize, usize),
    index: Slice<'_>,
    y: &SliceMut<'_>,
) -> Result<()> {
    let k = index.len();
    length("gather", "x", x.len(), &[outer, n, inner])?;
    length("gather", "y", y.len(), &[outer, k, inner])?;
    launch(gpu, (TEXT, "gather"), Grid::over(y.len()), (outer, n, inner, k), [x, index], y)
}

/// y\[o, v, j\] = Σ x\[o, i, j\] over all i with index\[i\] = v, in order.
///
/// # Shape
/// x: \[outer, k, inner\] · index: \[k\] · y: \[outer, n, inner\]
///
/// # Errors
/// As [`check`].
pub fn scatter_add(
    gpu: &Gpu,
    x: Slice<'_>,
    (outer, n, inner): (usize, usize, usize),
    index: Slice<'_>,
    y: &SliceMut<'_>,
) -> Result<()> {
    let k = index.len();
    length("scatter", "x", x.len(), &[outer, k, inner])?;
    length("scatter", "y", y.len(), &[outer, n, inner])?;
    strided::fill(gpu, 0.0, y)?;
    let grid = Grid { shared: 16, ..Grid::blocks(k) };
    launch(gpu, (TEXT, "scatter_add"), grid, (outer, n, inner, k), [x, index], y)
}

/// Queues a kernel that takes numbers and an index: all of this file and of `along.rs` have the same
/// arguments. Without numbers there is nothing to do.
pub(super) fn launch(
    gpu: &Gpu,
    (text, name): (Text, &'static str),
    grid: Grid,
    (outer, n, inner, k): (usize, usize, usize, usize),
    [x, index]: [Slice<'_>; 2],
    y: &SliceMut<'_>,
) -> Result<()> {
    if x.is_empty() || y.is_empty() {
        return Ok(());
    }
    let arguments =
        [outer.into(), n.into(), inner.into(), k.into(), x.into(), index.into(), y.into()];
    gpu.launch(&Program::new(text, y.scalar()), name, grid, &arguments)
}
