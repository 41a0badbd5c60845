//! The inner product of all of a model's tensors with others like them: one number, which stays there.

use super::device::Gpu;
use super::error::Result;
use super::launch::{Arg, Grid};
use super::operand::{length, scalar as same};
use super::program::{Program, Text};
use super::reduce;
use super::slice::{Scalar, Slice, SliceMut};

const TEXT: Text = Text { name: "inner", source: include_str!("../../cuda/inner.cu") };

/// The most elements of a piece.
const PIECE: usize = 8192;

/// y = Σ over pairs of Σ a b, added in f64.
///
/// # Shape
/// the two of a pair are of one length, all of one type · y: \[1\], of f64
///
/// # Errors
/// What the driver or the compiler refuses.
pub fn inner(gpu: &Gpu, pairs: &[(Slice<'_>, Slice<'_>)], y: &SliceMut<'_>) -> Result<()> {
    length("inner", "y", y.len(), &[1])?;
    same("inner", "y", y.scalar(), Scalar::F64)?;
    let scalar = pairs.first().map_or(Scalar::F64, |(a, _)| a.scalar());
    let mut table: Vec<i64> = Vec::new();
    for (a, b) in pairs {
        same("inner", "a", a.scalar(), scalar)?;
        same("inner", "b", b.scalar(), scalar)?;
        length("inner", "b", b.len(), &[a.len()])?;
        let (first_a, first_b) = (a.on(gpu, "inner")?, b.on(gpu, "inner")?);
        for start in (0..a.len()).step_by(PIECE) {
            let at = |first: u64| (first + (start * scalar.bytes()) as u64) as i64;
            table.extend([at(first_a), at(first_b), PIECE.min(a.len() - start) as i64]);
        }
    }
    let rows = table.len() / 3;
    let mut sums = gpu.memory().numbers(Scalar::F64, &[rows])?;
    let sums = SliceMut::new(&mut sums, Scalar::F64, rows);
    if rows > 0 {
        let on_device = gpu.write(&table)?;
        let arguments = [rows.into(), Arg::Pointer(on_device.pointer()), (&sums).into()];
        let grid = Grid::blocks(rows).sharing(Scalar::F64.bytes());
        gpu.launch(&Program::new(TEXT, scalar), "inner", grid, &arguments)?;
    }
    reduce::sum(gpu, sums.read(), (1, rows, 1), 1.0, y)
}
