//! The Cholesky factor of small matrices, inverted: what inverses of larger ones are built of by products.

use super::device::Gpu;
use super::error::{CudaError, Result};
use super::launch::Grid;
use super::operand::length;
use super::program::{Program, Text};
use super::slice::SliceMut;

const TEXT: Text = Text { name: "cholesky", source: include_str!("../../cuda/cholesky.cu") };

/// The most rows: such a matrix of f64 fits into the shared memory that every device gives without being
/// asked, and a block has a thread for each row.
pub const MOST: usize = 64;

/// From A = L Lᵀ to 1/L, in place, for each of some matrices; the part above the diagonal becomes 0. Of A the part
/// below it is read. A matrix that is not positive definite becomes one with a NaN in it.
///
/// # Shape
/// x: \[count, n, n\], n ≤ [`MOST`], of f32 or f64
///
/// # Source
/// Golub & Van Loan 2013, *Matrix Computations*, algorithm 4.2.2.
///
/// # Errors
/// What the driver or the compiler refuses.
pub fn inverse_factor(gpu: &Gpu, n: usize, x: &SliceMut<'_>) -> Result<()> {
    if n > MOST {
        let (what, sizes, expected) = ("rows of a small matrix", vec![n], "at most 64");
        return Err(CudaError::Sizes { what, sizes, expected });
    }
    let count = x.len().checked_div(n * n).unwrap_or(0);
    length("cholesky", "x", x.len(), &[count, n, n])?;
    if count == 0 {
        return Ok(());
    }
    let shared = (n * n * x.scalar().bytes()) as u32;
    let grid = Grid { shared, ..Grid::blocks(count) };
    let arguments = [count.into(), n.into(), x.into()];
    gpu.launch(&Program::new(TEXT, x.scalar()), "cholesky", grid, &arguments)
}
