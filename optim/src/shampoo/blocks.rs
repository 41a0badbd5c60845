//! Cutting a tensor into blocks, and the preconditioner of one block.

use std::fmt;
use std::ops::Range;

use engine::{Error, Result, Shape};
use kernels::gemm::{Matrix, gemm};
use kernels::linalg;

use super::Statistics;
use crate::moments::correction;

/// So many failures in a row are borne with the previous roots.
const FAILURES_BORNE: u32 = 2;

/// How a parameter is cut: its axes, some of them merged, into pieces of at most `block`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Cut {
    dims: Vec<usize>,
    block: usize,
}

impl Cut {
    pub(super) fn new(shape: &Shape, block: Option<usize>, merge: bool) -> Self {
        let block = block.unwrap_or(usize::MAX).max(1);
        let mut dims: Vec<usize> = Vec::new();
        for &size in shape.iter() {
            match dims.last_mut() {
                Some(last) if merge && last.saturating_mul(size) <= block => *last *= size,
                _ => dims.push(size),
            }
        }
        // A scalar is a vector of one number.
        if dims.is_empty() {
            dims.push(1);
        }
        Self { dims, block }
    }

    /// The blocks, in row-major order: a range along each axis.
    pub(super) fn ranges(&self) -> Vec<Vec<Range<usize>>> {
        let mut all = vec![Vec::new()];
        for &size in &self.dims {
            let pieces = (0..size).step_by(self.block);
            let pieces: Vec<_> =
                pieces.map(|at| at..at.saturating_add(self.block).min(size)).collect();
            let longer = |start: &Vec<Range<usize>>| -> Vec<Vec<Range<usize>>> {
                pieces
                    .iter()
                    .map(|p| [start.as_slice(), std::slice::from_ref(p)].concat())
                    .collect()
            };
            all = all.iter().flat_map(longer).collect();
        }
        all
    }

    pub(super) fn read(&self, x: &[f64], block: &[Range<usize>]) -> Vec<f64> {
        let mut out = Vec::with_capacity(block.iter().map(Range::len).product());
        self.rows(block, |row| out.extend_from_slice(&x[row]));
        out
    }

    pub(super) fn write(&self, part: &[f64], block: &[Range<usize>], x: &mut [f64]) {
        let mut at = 0;
        self.rows(block, |row| {
            let end = at + row.len();
            x[row].copy_from_slice(&part[at..end]);
            at = end;
        });
    }

    /// Visits a block row by row (along the last axis), as ranges of the whole tensor's memory.
    fn rows(&self, block: &[Range<usize>], mut visit: impl FnMut(Range<usize>)) {
        let Some((last, leading)) = block.split_last() else { return };
        let count: usize = leading.iter().map(Range::len).product();
        for row in 0..count {
            // The row's number, as coordinates inside the block, gives its place in the tensor.
            let (mut rest, mut start, mut stride) = (row, 0, self.dims[leading.len()]);
            for (range, &size) in leading.iter().zip(&self.dims).rev() {
                start += (range.start + rest % range.len()) * stride;
                rest /= range.len();
                stride *= size;
            }
            visit(start + last.start..start + last.end);
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sizes: Vec<String> = self.dims.iter().map(|&d| d.min(self.block).to_string()).collect();
        let count = self.ranges().len();
        write!(f, "Kronecker, {}", sizes.join(" ⊗ "))?;
        if count > 1 { write!(f, ", in {count} blocks") } else { Ok(()) }
    }
}

/// The second moments of one block along each axis, and their inverse roots.
#[derive(Debug, Clone)]
pub(super) struct Preconditioner {
    pub(super) axes: Vec<Axis>,
    pub(super) failures: u32,
}

#[derive(Debug, Clone)]
pub(super) struct Axis {
    pub(super) dim: usize,
    /// L without its ε, `[dim, dim]`: what rounding makes of a zero eigenvalue cannot hide ε then.
    pub(super) moment: Vec<f64>,
    /// L^(−1/2k); empty before the first.
    pub(super) root: Vec<f64>,
}

impl Preconditioner {
    pub(super) fn new(block: &[Range<usize>]) -> Self {
        let axis = |range: &Range<usize>| {
            let dim = range.len();
            Axis { dim, moment: vec![0.0; dim * dim], root: Vec::new() }
        };
        Self { axes: block.iter().map(axis).collect(), failures: 0 }
    }

    pub(super) fn has_roots(&self) -> bool {
        self.axes.iter().all(|axis| axis.root.len() == axis.moment.len())
    }

    /// L_i ← L_i + G₍ᵢ₎ G₍ᵢ₎ᵀ, or its moving average.
    pub(super) fn add(&mut self, gradient: &[f64], statistics: Statistics) {
        let (keep, gain) = match statistics {
            Statistics::Sum { .. } => (1.0, 1.0),
            Statistics::Ema { beta2, .. } => (beta2, 1.0 - beta2),
        };
        let mut inner = gradient.len();
        for Axis { dim, moment, .. } in &mut self.axes {
            let slab = inner;
            inner = inner.checked_div(*dim).unwrap_or(0);
            moment.iter_mut().for_each(|x| *x *= keep);
            // LOOP: the tensor seen as [outer, dim, inner] is a stack of matrices.
            for matrix in gradient.chunks_exact(slab.max(1)) {
                let matrix = Matrix::new(matrix, *dim, inner);
                gemm(gain, matrix, matrix.t(), 1.0, moment);
            }
        }
    }

    /// The roots of all axes, or none of them: a failure leaves the previous ones in use.
    pub(super) fn renew(
        &mut self,
        statistics: Statistics,
        exponent: Option<f64>,
        t: u64,
    ) -> Result<()> {
        let exponent = exponent.unwrap_or(-0.5 / self.axes.len() as f64);
        let (scale, ridge) = match statistics {
            Statistics::Sum { epsilon } => (1.0, epsilon),
            Statistics::Ema { beta2, bias_correction: true, epsilon } => {
                (correction(beta2, t), epsilon)
            }
            Statistics::Ema { epsilon, .. } => (1.0, epsilon),
        };
        let root = |axis: &Axis| {
            let moment: Vec<f64> = axis.moment.iter().map(|x| x / scale).collect();
            linalg::power(&moment, axis.dim, exponent, ridge)
        };
        match self.axes.iter().map(root).collect::<Result<Vec<_>, _>>() {
            Ok(roots) => {
                self.failures = 0;
                self.axes.iter_mut().zip(roots).for_each(|(axis, root)| axis.root = root);
                Ok(())
            }
            Err(_) if self.has_roots() && self.failures < FAILURES_BORNE => {
                self.failures += 1;
                Ok(())
            }
            Err(error) => Err(Error::Linalg { routine: "shampoo", reason: error.to_string() }),
        }
    }

    /// M ×₁ root₁ ×₂ … ×ₖ rootₖ
    pub(super) fn apply(&self, moment: Vec<f64>) -> Vec<f64> {
        let (mut x, mut inner) = (moment, 0);
        for (i, Axis { dim, root, .. }) in self.axes.iter().enumerate() {
            let slab = if i == 0 { x.len() } else { inner };
            inner = slab.checked_div(*dim).unwrap_or(0);
            let mut out = vec![0.0; x.len()];
            let slabs = x.chunks_exact(slab.max(1)).zip(out.chunks_exact_mut(slab.max(1)));
            for (matrix, out) in slabs {
                let root = Matrix::new(root, *dim, *dim);
                gemm(1.0, root, Matrix::new(matrix, *dim, inner), 0.0, out);
            }
            x = out;
        }
        x
    }

    pub(super) fn numbers(&self) -> usize {
        self.axes.iter().map(|axis| axis.moment.len() + axis.root.len()).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cover_a_tensor_once_and_put_it_together_again() {
        for (shape, block, count) in
            [([5, 4, 3], Some(2), 3 * 2 * 2), ([5, 4, 3], None, 1), ([2, 7, 1], Some(3), 3)]
        {
            let cut = Cut::new(&Shape::from(shape), block, false);
            let x: Vec<f64> = (0..shape.iter().product()).map(|i: usize| i as f64).collect();
            let mut back = vec![f64::NAN; x.len()];
            assert_eq!(cut.ranges().len(), count);
            for range in cut.ranges() {
                cut.write(&cut.read(&x, &range), &range, &mut back);
            }
            assert_eq!(back, x);
        }
    }

    #[test]
    fn axes_are_merged_as_long_as_they_fit_into_a_block() {
        let dims = |block| Cut::new(&Shape::from([8, 2, 3, 3]), Some(block), true).dims;
        assert_eq!(dims(18), [16, 9]);
        assert_eq!(dims(1024), [144]);
        assert_eq!(dims(8), [8, 6, 3]);
    }

    #[test]
    fn a_scalar_is_a_vector_of_one_number() {
        let cut = Cut::new(&Shape::from(()), None, false);
        assert_eq!(cut.read(&[3.0], &cut.ranges()[0]), [3.0]);
    }
}
