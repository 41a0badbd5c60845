//! The same on a device: damped factors, inverted by products of matrices. Nothing is read back.
//!
//! Of A = L Lᵀ first T = 1/L, by halves, then A⁻¹ = Tᵀ T:
//!
//! ```text
//! A = [A₁ Bᵀ; B A₂]     C = B T₁ᵀ     T = [T₁ 0; −T₂ C T₁  T₂]     T₁ of A₁, T₂ of A₂ − C Cᵀ
//! ```
//! Blocks of a few dozen rows are one kernel's. A matrix that is not positive definite becomes NaN. Golub &
//! Van Loan 2013, *Matrix Computations*, 4.2; what triangular inverses do to rounding: Du Croz & Higham 1992,
//! "Stability of Methods for Matrix Inversion".

use engine::{DType, Error, Result, Tensor};
use kernels::cuda::cholesky::{MOST, inverse_factor};

use super::{DampedInverse, DampingRule, Half, Pattern};
use crate::algebra::on_tensors::ratio;

/// A factor of one group, flat.
#[derive(Debug)]
pub(crate) struct Placed<'a> {
    pub(crate) pattern: &'a Pattern,
    pub(crate) values: Tensor,
}

/// (G ⊗ A + λ I)⁻¹ with λ > 0, shared out before the inversion: by the rules Pi and Plain.
pub(crate) fn damped_inverses(
    g: &Placed<'_>,
    a: &Placed<'_>,
    damping: f64,
    rule: DampingRule,
) -> Result<DampedInverse> {
    let number = |x| Tensor::full_on(g.values.device(), (), x, DType::F64);
    let (g_shift, a_shift) = match rule {
        DampingRule::Pi => {
            // π, or 1 where it is not defined.
            let (pi, root) =
                (ratio(&a.mean_eigenvalue()?, &g.mean_eigenvalue()?)?.sqrt()?, damping.sqrt());
            (pi.recip()?.scale(root)?, pi.scale(root)?)
        }
        DampingRule::Plain | DampingRule::Exact => (number(damping)?, number(damping)?),
    };
    Ok(DampedInverse { g: g.inverse(&g_shift)?, a: a.inverse(&a_shift)?, damping: 0.0 })
}

impl Placed<'_> {
    /// The blocks, each with its size.
    fn blocks(&self) -> Result<Vec<(usize, Tensor)>> {
        let mut start = 0;
        let block = |range: std::ops::Range<usize>| {
            let n = range.len();
            start += n * n;
            Ok((n, self.values.narrow(0, start - n * n, n * n)?))
        };
        self.pattern.ranges().into_iter().map(block).collect()
    }

    /// tr / n
    fn mean_eigenvalue(&self) -> Result<Tensor> {
        let mut trace = match self.pattern {
            Pattern::Diagonal(_) => self.values.sum_all()?,
            Pattern::Blocks(_) => Tensor::full_on(self.values.device(), (), 0.0, DType::F64)?,
        };
        for (n, block) in self.blocks()? {
            // One column more, and the diagonal is the first one.
            let zeros = Tensor::full_on(block.device(), [n], 0.0, DType::F64)?;
            let wider = Tensor::concat(&[&block, &zeros], 0)?.reshape([n, n + 1])?;
            trace = trace.add(&wider.narrow(1, 0, 1)?.sum_all()?)?;
        }
        trace.scale(1.0 / self.pattern.size().max(1) as f64)
    }

    /// (self + shift · I)⁻¹
    fn inverse(&self, shift: &Tensor) -> Result<Half> {
        let dim = self.pattern.size();
        if let Pattern::Diagonal(_) = self.pattern {
            let eigenvalues = Some(self.values.add(shift)?);
            return Ok(Half { matrices: Vec::new(), eigenvalues, dim });
        }
        let inverse = |(n, block): (usize, Tensor)| {
            let root = inverse_root(&block.reshape([n, n])?.add(&diagonal(shift, n)?)?)?;
            root.transpose(0, 1)?.matmul(&root)
        };
        let matrices = self.blocks()?.into_iter().map(inverse).collect::<Result<_>>()?;
        Ok(Half { matrices, eigenvalues: None, dim })
    }
}

/// A number times the identity.
fn diagonal(number: &Tensor, n: usize) -> Result<Tensor> {
    let zeros = Tensor::full_on(number.device(), [n, n], 0.0, number.dtype())?;
    let first = number.broadcast_to([n, 1])?;
    // Without the last numbers, rows are shorter by one: the first column becomes the diagonal.
    Tensor::concat(&[&first, &zeros], 1)?
        .reshape([n * (n + 1)])?
        .narrow(0, 0, n * n)?
        .reshape([n, n])
}

/// T with Tᵀ T = A⁻¹, lower triangular.
fn inverse_root(a: &Tensor) -> Result<Tensor> {
    let n = a.shape()[0];
    if n <= MOST {
        let mut t = a.contiguous()?;
        let elsewhere = Error::NoKernel { op: "inverse", device: t.device() };
        let gpu = std::sync::Arc::clone(t.gpu().ok_or(elsewhere)?);
        inverse_factor(&gpu, n, &t.make_cuda_mut()?)?;
        return Ok(t);
    }
    let half = (n / 2).next_multiple_of(MOST);
    let (upper, lower) = (a.narrow(0, 0, half)?, a.narrow(0, half, n - half)?);
    let first = inverse_root(&upper.narrow(1, 0, half)?)?;
    let c = lower.narrow(1, 0, half)?.matmul(&first.transpose(0, 1)?)?;
    let rest = lower.narrow(1, half, n - half)?.sub(&c.matmul(&c.transpose(0, 1)?)?)?;
    let last = inverse_root(&rest)?;
    let below = last.matmul(&c.matmul(&first)?)?.neg()?;
    let zeros = Tensor::full_on(a.device(), [half, n - half], 0.0, a.dtype())?;
    let above = Tensor::concat(&[&first, &zeros], 1)?;
    Tensor::concat(&[&above, &Tensor::concat(&[&below, &last], 1)?], 0)
}
