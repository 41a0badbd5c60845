//! Sums of squares of rows, channels and patches: the diagonals that curvature is made of. Formulas: the
//! module of this name for the CPU.

use super::conv::{image, sizes};
use super::device::Gpu;
use super::error::Result;
use super::launch::Grid;
use super::operand::{length, rows};
use super::program::{Program, Text};
use super::reduce;
use super::slice::{Slice, SliceMut};
use crate::conv::Conv2d;

const TEXT: Text =
    Text { name: "second_moment", source: include_str!("../../cuda/second_moment.cu") };

/// Rows that one thread adds up.
const CHUNK: usize = 64;

/// y\[i\] = Σᵣ x\[r, i\]²
///
/// # Shape
/// x: \[R, width\] · y: \[width\]
///
/// # Errors
/// What the driver or the compiler refuses (all functions here).
pub fn column_squares(gpu: &Gpu, x: Slice<'_>, y: &SliceMut<'_>) -> Result<()> {
    let width = y.len();
    let rows = rows("column squares", "x", x.len(), width)?;
    let (pieces, scalar) = (rows.div_ceil(CHUNK), y.scalar());
    let length = pieces * width;
    let mut partial = gpu.memory().numbers(scalar, &[pieces, width])?;
    let partial = SliceMut::new(&mut partial, scalar, length);
    if length > 0 {
        let sizes = [rows.into(), width.into(), CHUNK.into()];
        let arguments = [sizes[0], sizes[1], sizes[2], x.into(), (&partial).into()];
        let program = Program::new(TEXT, scalar);
        gpu.launch(&program, "column_squares", Grid::over(length), &arguments)?;
    }
    reduce::sum(gpu, partial.read(), (1, pieces, width), 1.0, y)
}

/// y\[k\] = Σ over n and s of x\[n, k, s\]²
///
/// # Shape
/// x: \[n, c, s\] · y: \[c\]
///
/// # Errors
/// As [`column_squares`].
pub fn channel_squares(
    gpu: &Gpu,
    (n, c, s): (usize, usize, usize),
    x: Slice<'_>,
    y: &SliceMut<'_>,
) -> Result<()> {
    length("channel squares", "x", x.len(), &[n, c, s])?;
    length("channel squares", "y", y.len(), &[c])?;
    if y.is_empty() {
        return Ok(());
    }
    let arguments = [n.into(), c.into(), s.into(), x.into(), y.into()];
    let grid = Grid::blocks(c).sharing(y.scalar().bytes());
    gpu.launch(&Program::new(TEXT, y.scalar()), "channel_squares", grid, &arguments)
}

/// y\[d\] = Σ over images and positions of the square of entry d of the patch there.
///
/// # Shape
/// x: \[N, C, H, W\] · y: \[C, KH, KW\], the groups one after another
///
/// # Errors
/// As [`column_squares`].
pub fn patch_squares(gpu: &Gpu, conv: &Conv2d, x: Slice<'_>, y: &SliceMut<'_>) -> Result<()> {
    sizes("patch squares", conv, Some(x.len()), None, None)?;
    let (kh, kw) = conv.window.kernel;
    length("patch squares", "y", y.len(), &[conv.in_channels, kh, kw])?;
    if y.is_empty() {
        return Ok(());
    }
    let arguments = [image(conv)?.into(), x.into(), y.into()];
    let grid = Grid::blocks(y.len()).sharing(y.scalar().bytes());
    gpu.launch(&Program::new(TEXT, y.scalar()), "patch_squares", grid, &arguments)
}
