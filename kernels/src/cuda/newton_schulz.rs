//! The Newton–Schulz iteration, which makes a matrix's singular values about one: three products each time.

use super::device::Gpu;
use super::error::Result;
use super::gemm::{Matrices, gemm};
use super::operand::length;
use super::slice::SliceMut;
use super::strided;

/// X ← a X + (b A + c A²) X with A = X Xᵀ, `iterations` times, in place. A is formed on the shorter side.
///
/// # Shape
/// x: \[rows, columns\], of f32 or f64
///
/// # Source
/// Jordan et al. 2024, "Muon: An optimizer for hidden layers in neural networks"; Higham 2008, *Functions
/// of Matrices*, section 8.3.
///
/// # Errors
/// When memory runs out, or what cuBLAS refuses.
pub fn newton_schulz(
    gpu: &Gpu,
    x: &SliceMut<'_>,
    (rows, columns): (usize, usize),
    [a, b, c]: [f64; 3],
    iterations: u32,
) -> Result<()> {
    length("newton schulz", "x", x.len(), &[rows, columns])?;
    let (n, scalar) = (rows.min(columns), x.scalar());
    let memory = |sizes: &[usize]| gpu.memory().numbers(scalar, sizes);
    let (mut gram, mut poly, mut old) = (memory(&[n, n])?, memory(&[n, n])?, memory(&[x.len()])?);
    let gram = SliceMut::new(&mut gram, scalar, n * n);
    let poly = SliceMut::new(&mut poly, scalar, n * n);
    let old = SliceMut::new(&mut old, scalar, x.len());
    for _ in 0..iterations {
        strided::copy(gpu, &[x.len()], &[1], x.read(), &old)?;
        let m = Matrices::new(old.read(), rows, columns);
        let (short, long) = if rows <= columns { (m, m.t()) } else { (m.t(), m) };
        gemm(gpu, 1, 1.0, short, long, 0.0, &gram)?;
        // b A + c A²
        strided::copy(gpu, &[n * n], &[1], gram.read(), &poly)?;
        let square = Matrices::new(gram.read(), n, n);
        gemm(gpu, 1, c, square, square, b, &poly)?;
        // The polynomial is symmetric: from the right for a tall X.
        let p = Matrices::new(poly.read(), n, n);
        let (left, right) = if rows <= columns { (p, m) } else { (m, p) };
        gemm(gpu, 1, 1.0, left, right, a, x)?;
    }
    Ok(())
}
