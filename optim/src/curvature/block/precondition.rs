//! A damped Kronecker block, inverted: direction = (G ⊗ A + λ I)⁻¹ vec(gradient).
//!
//! A layer's gradient is a matrix X of outputs × inputs. Row by row, vec(G X A) = (G ⊗ A) vec(X), so
//! the inverse of G ⊗ A is G⁻¹ X A⁻¹: two small inverses in place of a large one. λ does not fit
//! into a Kronecker product, hence three rules:
//!
//! | rule  | what is inverted | source |
//! |-------|------------------|--------|
//! | Pi    | (G + √λ/π I) ⊗ (A + π √λ I),  π² = (tr A / dim A) / (tr G / dim G) | Martens & Grosse 2015, 6.3 |
//! | Plain | (G + λ I) ⊗ (A + λ I) | common practice |
//! | Exact | G ⊗ A + λ I, in the eigenvectors of both | George et al. 2018, eq. 10 |
//!
//! A factor that is cut into blocks ([`Pattern`]) is inverted block by block.
//! Inverses are found in `f64`, whatever the parameters are. What is kept of them is rounded once to the
//! parameters' own type ([`DampedInverse::to_dtype`]), so a direction is two products of matrices in
//! that type, and nothing is converted in a step.

#[cfg(feature = "cuda")]
pub(crate) mod there;

use engine::{DType, Device, Element as _, Error, Result, Tensor, for_float};
use kernels::linalg;

use super::factor::Factor;
use crate::algebra::dense::failed;
use crate::algebra::pattern::Pattern;

/// How λ is shared out between the two factors. The table is at the top of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DampingRule {
    /// √λ in each factor, in proportion to its mean eigenvalue.
    #[default]
    Pi,
    /// λ in each factor.
    Plain,
    /// λ on the diagonal of the block itself.
    Exact,
}

impl Factor<'_> {
    /// (self + shift·I)⁻¹
    pub(in crate::curvature) fn inverse(&self, shift: f64) -> Result<Half> {
        if let Pattern::Diagonal(dim) = *self.pattern() {
            let eigenvalues = self.values().iter().map(|x| x + shift).collect();
            return Half::diagonal(eigenvalues, dim);
        }
        let inverse = |(n, values): (usize, &[f64])| {
            let mut damped = values.to_vec();
            damped.iter_mut().step_by(n + 1).for_each(|x| *x += shift);
            square(linalg::cholesky_inverse(&damped, n).map_err(|e| failed(&e))?, n)
        };
        let matrices = self.blocks().map(inverse).collect::<Result<_>>()?;
        Ok(Half { matrices, eigenvalues: None, dim: self.dim() })
    }

    fn eigen(&self) -> Result<Half> {
        let dim = self.dim();
        if let Pattern::Diagonal(_) = self.pattern() {
            return Half::diagonal(self.values().to_vec(), dim);
        }
        let (mut matrices, mut eigenvalues) = (Vec::new(), Vec::with_capacity(dim));
        for (n, values) in self.blocks() {
            let eigen = linalg::symmetric_eigen(values, n).map_err(|e| failed(&e))?;
            // A second moment has no negative eigenvalue but by rounding.
            eigenvalues.extend(eigen.values.iter().map(|x| x.max(0.0)));
            matrices.push(square(eigen.vectors, n)?);
        }
        Ok(Half { matrices, ..Half::diagonal(eigenvalues, dim)? })
    }
}

/// One side of a damped inverse: the inverse itself (`matrices` alone), or eigenvectors (none for a
/// diagonal factor, whose eigenvectors are the axes) and eigenvalues.
#[derive(Debug, Clone)]
pub struct Half {
    /// `[b, b]` for each diagonal block, one of them if nothing is cut: the inverse, or with `eigenvalues`
    /// the eigenvectors as columns.
    pub matrices: Vec<Tensor>,
    /// `[n]`, of f64 whatever the matrices are.
    pub eigenvalues: Option<Tensor>,
    /// n
    pub dim: usize,
}

/// (G ⊗ A + λ I)⁻¹ by one of the three rules, ready to be applied.
#[derive(Debug, Clone)]
pub struct DampedInverse {
    /// Of G: acts on the rows of a gradient.
    pub g: Half,
    /// Of A: acts on its columns.
    pub a: Half,
    /// What is added to the product of two eigenvalues; 0 where λ is in the factors already.
    pub damping: f64,
}

/// π = √((tr A / dim A) / (tr G / dim G)), or `None` when that is 0, infinite or undefined: then
/// both factors get √λ.
///
/// # Example
/// ```
/// use alcyon_optim::curvature::{Factor, pi};
/// let (a, g) = (Factor::diagonal(vec![8.0, 10.0]), Factor::diagonal(vec![1.0]));
/// assert_eq!(pi(&g, &a), Some(3.0));
/// assert_eq!(pi(&Factor::diagonal(vec![0.0]), &a), None);
/// ```
#[must_use]
pub fn pi(g: &Factor<'_>, a: &Factor<'_>) -> Option<f64> {
    let pi = (a.mean_eigenvalue() / g.mean_eigenvalue()).sqrt();
    (pi.is_finite() && pi > 0.0).then_some(pi)
}

/// The damped inverse of G ⊗ A.
///
/// # Units
/// λ is added to second moments of *per-term* gradients: to curvature of the mean loss.
///
/// # Errors
/// [`Error::Linalg`] when a damped factor is not positive definite (λ = 0 and a singular factor) or
/// not finite.
///
/// # Example
/// ```
/// use alcyon_optim::curvature::{DampingRule, Factor, damped_inverses, direction};
/// use engine::Tensor;
/// let (g, a) = (Factor::full(1, vec![2.0])?, Factor::diagonal(vec![1.0, 3.0]));
/// // 2 ⊗ diag(1, 3) + 2 I = diag(4, 8)
/// let inverse = damped_inverses(&g, &a, 2.0, DampingRule::Exact)?;
/// let gradient = Tensor::from_slice(&[4.0, 4.0], [1, 2])?;
/// assert_eq!(direction(&inverse, &gradient)?.to_f64_vec()?, [1.0, 0.5]);
/// # Ok::<(), engine::Error>(())
/// ```
pub fn damped_inverses(
    g: &Factor<'_>,
    a: &Factor<'_>,
    damping: f64,
    rule: DampingRule,
) -> Result<DampedInverse> {
    let rows = |half: Result<Half>| half.map_err(|e| of_factor(e, "the weight's rows"));
    let columns = |half: Result<Half>| half.map_err(|e| of_factor(e, "the weight's columns"));
    let inverse = match rule {
        DampingRule::Pi => {
            let (pi, root) = (pi(g, a).unwrap_or(1.0), damping.sqrt());
            let (g, a) = (rows(g.inverse(root / pi))?, columns(a.inverse(root * pi))?);
            DampedInverse { g, a, damping: 0.0 }
        }
        DampingRule::Plain => {
            let (g, a) = (rows(g.inverse(damping))?, columns(a.inverse(damping))?);
            DampedInverse { g, a, damping: 0.0 }
        }
        DampingRule::Exact => {
            DampedInverse { g: rows(g.eigen())?, a: columns(a.eigen())?, damping }
        }
    };
    let smallest = inverse.g.smallest()? * inverse.a.smallest()? + inverse.damping;
    if smallest > 0.0 {
        return Ok(inverse);
    }
    Err(Error::Linalg {
        routine: "damped_inverses",
        reason: format!("the smallest eigenvalue of the damped block is {smallest}; raise λ"),
    })
}

/// The direction (G ⊗ A + λ I)⁻¹ vec(X), as a matrix like X.
///
/// # Shape
/// gradient: `[dim G, dim A]`, of the inverse's dtype, like the result
///
/// # Errors
/// [`Error::Argument`] when the gradient has another number of elements; [`Error::DType`] when it is of
/// another type.
pub fn direction(inverse: &DampedInverse, gradient: &Tensor) -> Result<Tensor> {
    let (g, a) = (&inverse.g, &inverse.a);
    if gradient.numel() != g.dim * a.dim {
        return Err(Error::Argument {
            op: "direction",
            name: "gradient",
            expected: "dim G · dim A numbers",
            got: format!("{} for {} · {}", gradient.numel(), g.dim, a.dim),
        });
    }
    let mut x = gradient.reshape([g.dim, a.dim])?;
    // Into the eigenvectors, or already through the inverses (which are symmetric): Mᴳᵀ X Mᴬ.
    x = a.on_the_right(&g.on_the_left(&x, g.eigenvalues.is_some())?, false)?;
    if a.dim > 0 && (g.eigenvalues.is_some() || a.eigenvalues.is_some()) {
        if x.device() == Device::Cpu {
            inverse.divide(&mut x)?;
        } else {
            x = inverse.divided(&x)?;
        }
    }
    // And back: only eigenvectors have a way back.
    if g.eigenvalues.is_some() {
        x = g.on_the_left(&x, false)?;
    }
    if a.eigenvalues.is_some() {
        x = a.on_the_right(&x, true)?;
    }
    Ok(x)
}

impl DampedInverse {
    /// Each entry by the eigenvalue of its row times that of its column, plus λ.
    fn divide(&self, x: &mut Tensor) -> Result<()> {
        *x = x.contiguous()?;
        let (g, a) = (self.g.values()?, self.a.values()?);
        let of = |values: &[f64], i: usize| values.get(i).copied().unwrap_or(1.0);
        for_float!(x.dtype(), T => {
            for (i, row) in x.make_mut::<T>()?.chunks_exact_mut(self.a.dim).enumerate() {
                let eigenvalue = of(g, i);
                row.iter_mut().enumerate().for_each(|(j, x)| {
                    let s = eigenvalue * of(a, j) + self.damping;
                    *x = T::from_f64(x.to_f64() / s);
                });
            }
        });
        Ok(())
    }

    /// The same as operations on tensors.
    fn divided(&self, x: &Tensor) -> Result<Tensor> {
        let rows = self.g.eigenvalues.as_ref().map(|g| g.reshape([self.g.dim, 1])).transpose()?;
        let columns =
            self.a.eigenvalues.as_ref().map(|a| a.reshape([1, self.a.dim])).transpose()?;
        let products = match (rows, columns) {
            (Some(g), Some(a)) => g.mul(&a)?,
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => return Ok(x.clone()),
        };
        let wide = x.to_dtype(DType::F64)?.div(&products.shift(self.damping)?)?;
        wide.to_dtype(x.dtype())
    }

    /// The same on another device.
    ///
    /// # Errors
    /// Those of [`Tensor::to_device`].
    pub fn to_device(&self, device: Device) -> Result<Self> {
        let half = |half: &Half| -> Result<Half> {
            let matrices = half.matrices.iter().map(|m| m.to_device(device));
            let matrices = matrices.collect::<Result<_>>()?;
            let eigenvalues = half.eigenvalues.as_ref().map(|v| v.to_device(device)).transpose()?;
            Ok(Half { matrices, eigenvalues, dim: half.dim })
        };
        Ok(Self { g: half(&self.g)?, a: half(&self.a)?, damping: self.damping })
    }

    /// The same with its matrices in another dtype: each number rounded once.
    ///
    /// # Errors
    /// Those of [`Tensor::to_dtype`].
    pub fn to_dtype(&self, dtype: DType) -> Result<Self> {
        let half = |half: &Half| -> Result<Half> {
            let matrices = half.matrices.iter().map(|m| m.to_dtype(dtype));
            let (eigenvalues, dim) = (half.eigenvalues.clone(), half.dim);
            Ok(Half { matrices: matrices.collect::<Result<_>>()?, eigenvalues, dim })
        };
        Ok(Self { g: half(&self.g)?, a: half(&self.a)?, damping: self.damping })
    }
}

impl Half {
    /// The factor 1, of a block that is no product.
    pub(in crate::curvature) const fn one() -> Self {
        Self { matrices: Vec::new(), eigenvalues: None, dim: 1 }
    }

    /// M X or Mᵀ X, M block by block.
    fn on_the_left(&self, x: &Tensor, transposed: bool) -> Result<Tensor> {
        self.each_block(x, 0, |matrix, x| {
            if transposed { matrix.transpose(0, 1)?.matmul(x) } else { matrix.matmul(x) }
        })
    }

    /// X M or X Mᵀ.
    fn on_the_right(&self, x: &Tensor, transposed: bool) -> Result<Tensor> {
        self.each_block(x, 1, |matrix, x| {
            if transposed { x.matmul(&matrix.transpose(0, 1)?) } else { x.matmul(matrix) }
        })
    }

    /// Cuts X along an axis as the blocks are cut, and puts the products together again.
    fn each_block(
        &self,
        x: &Tensor,
        axis: isize,
        product: impl Fn(&Tensor, &Tensor) -> Result<Tensor>,
    ) -> Result<Tensor> {
        match self.matrices.as_slice() {
            [] => Ok(x.clone()),
            [whole] => product(whole, x),
            blocks => {
                let (mut products, mut start) = (Vec::with_capacity(blocks.len()), 0);
                for matrix in blocks {
                    let size = matrix.shape()[0];
                    products.push(product(matrix, &x.narrow(axis, start, size)?)?);
                    start += size;
                }
                Tensor::concat(&products.iter().collect::<Vec<_>>(), axis)
            }
        }
    }

    /// A diagonal matrix.
    fn diagonal(eigenvalues: Vec<f64>, dim: usize) -> Result<Self> {
        let eigenvalues = Some(Tensor::from_vec(eigenvalues, [dim])?);
        Ok(Self { matrices: Vec::new(), eigenvalues, dim })
    }

    /// The eigenvalues, none if they are 1.
    fn values(&self) -> Result<&[f64]> {
        self.eigenvalues.as_ref().map_or(Ok(&[]), Tensor::as_slice::<f64>)
    }

    /// The smallest eigenvalue known: an inverse has been found positive definite before.
    fn smallest(&self) -> Result<f64> {
        Ok(match self.eigenvalues {
            Some(_) => self.values()?.iter().copied().fold(f64::INFINITY, f64::min),
            None => 1.0,
        })
    }

    /// The device of what is kept; `None` if that is nothing.
    pub(in crate::curvature) fn device(&self) -> Option<Device> {
        self.matrices.first().or(self.eigenvalues.as_ref()).map(Tensor::device)
    }

    /// Bytes of what is kept.
    pub(crate) fn bytes(&self) -> usize {
        let eigenvalues = self.eigenvalues.as_ref().map_or(0, Tensor::bytes);
        self.matrices.iter().map(Tensor::bytes).sum::<usize>() + eigenvalues
    }
}

fn square(values: Vec<f64>, n: usize) -> Result<Tensor> {
    Tensor::from_vec(values, [n, n])
}

/// What a matrix routine said, as the engine's error.
/// The same result; an error with the side whose factor is at fault.
pub(crate) fn of_side<T>(side: &str, result: Result<T>) -> Result<T> {
    result.map_err(|error| of_factor(error, side))
}

/// The same error, with the factor that is at fault.
pub(crate) fn of_factor(error: Error, side: &str) -> Error {
    match error {
        Error::Linalg { routine, reason } => {
            Error::Linalg { routine, reason: format!("the factor of {side}: {reason}; raise λ") }
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const G: [f64; 4] = [2.0, 0.5, 0.5, 1.0];
    const A: [f64; 9] = [3.0, 1.0, 0.0, 1.0, 2.0, 0.3, 0.0, 0.3, 1.5];
    const X: [f64; 6] = [1.0, -2.0, 0.5, 4.0, 0.25, -1.0];

    /// (G + s I) P (A + t I) + r P: what a direction P has to solve.
    fn applied(p: &[f64], s: f64, t: f64, r: f64) -> Vec<f64> {
        let shifted = |m: &[f64], n: usize, shift: f64| -> Vec<f64> {
            let diagonal = |i: usize| if i.is_multiple_of(n + 1) { shift } else { 0.0 };
            m.iter().enumerate().map(|(i, x)| x + diagonal(i)).collect()
        };
        let (g, a) = (shifted(&G, 2, s), shifted(&A, 3, t));
        let entry = |i: usize, j: usize| -> f64 {
            let terms = (0..6).map(|k| g[i * 2 + k / 3] * p[k] * a[k % 3 * 3 + j]);
            terms.sum::<f64>() + r * p[i * 3 + j]
        };
        (0..6).map(|k| entry(k / 3, k % 3)).collect()
    }

    fn solved(rule: DampingRule, damping: f64) -> Vec<f64> {
        let (g, a) = (Factor::full(2, &G[..]).unwrap(), Factor::full(3, &A[..]).unwrap());
        moved(&damped_inverses(&g, &a, damping, rule).unwrap())
    }

    fn moved(inverse: &DampedInverse) -> Vec<f64> {
        let x = Tensor::from_slice(&X, [2, 3]).unwrap();
        direction(inverse, &x).unwrap().to_f64_vec().unwrap()
    }

    fn assert_close(got: &[f64], expected: &[f64]) {
        assert_eq!(got.len(), expected.len());
        for (x, y) in got.iter().zip(expected) {
            assert!((x - y).abs() < 1e-12 * y.abs().max(1.0), "{got:?} is not {expected:?}");
        }
    }

    #[test]
    fn each_rule_solves_the_system_it_names() {
        let lambda: f64 = 0.3;
        let pi = ((6.5 / 3.0) / (3.0_f64 / 2.0)).sqrt();
        let (s, t) = (lambda.sqrt() / pi, lambda.sqrt() * pi);
        assert_close(&applied(&solved(DampingRule::Pi, lambda), s, t, 0.0), &X);
        assert_close(&applied(&solved(DampingRule::Plain, lambda), lambda, lambda, 0.0), &X);
        assert_close(&applied(&solved(DampingRule::Exact, lambda), 0.0, 0.0, lambda), &X);
    }

    #[test]
    fn without_damping_the_three_rules_agree() {
        let pi = solved(DampingRule::Pi, 0.0);
        assert_close(&solved(DampingRule::Plain, 0.0), &pi);
        assert_close(&solved(DampingRule::Exact, 0.0), &pi);
    }

    #[test]
    fn a_diagonal_factor_equals_the_full_matrix_with_that_diagonal() {
        let full = [4.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.25];
        let g = Factor::full(2, &G[..]).unwrap();
        let (full, thin) =
            (Factor::full(3, &full[..]).unwrap(), Factor::diagonal(vec![4.0, 1.0, 0.25]));
        for rule in [DampingRule::Pi, DampingRule::Plain, DampingRule::Exact] {
            let of = |a| moved(&damped_inverses(&g, a, 0.1, rule).unwrap());
            assert_close(&of(&thin), &of(&full));
        }
    }

    #[test]
    fn blocks_equal_the_full_matrix_with_zeros_between_them() {
        // [3 1; 1 2] and [1.5]
        let cut = Factor::new(Pattern::Blocks(vec![2, 1]), vec![3.0, 1.0, 1.0, 2.0, 1.5]).unwrap();
        let full = Factor::full(3, cut.to_matrix()).unwrap();
        assert_eq!(full.to_matrix(), [3.0, 1.0, 0.0, 1.0, 2.0, 0.0, 0.0, 0.0, 1.5]);
        assert_eq!(cut.mean_eigenvalue(), full.mean_eigenvalue());
        let g = Factor::full(2, &G[..]).unwrap();
        for rule in [DampingRule::Pi, DampingRule::Plain, DampingRule::Exact] {
            let of = |g, a| damped_inverses(g, a, 0.1, rule).unwrap();
            assert_close(&moved(&of(&g, &cut)), &moved(&of(&g, &full)));
            let turned = |inverse| {
                let x = Tensor::from_slice(&X, [3, 2]).unwrap();
                direction(inverse, &x).unwrap().to_f64_vec().unwrap()
            };
            assert_close(&turned(&of(&cut, &g)), &turned(&of(&full, &g)));
        }
    }

    #[test]
    fn a_dead_layer_gets_the_root_of_lambda_on_both_sides() {
        let (g, a) = (Factor::full(2, vec![0.0; 4]).unwrap(), Factor::diagonal(vec![0.0; 3]));
        let inverse = damped_inverses(&g, &a, 0.04, DampingRule::Pi).unwrap();
        let expected: Vec<f64> = X.iter().map(|x| x / 0.04).collect();
        assert_close(&moved(&inverse), &expected);
    }

    #[test]
    fn an_undamped_singular_block_is_a_typed_error_for_every_rule() {
        let (g, a) = (Factor::full(2, vec![1.0; 4]).unwrap(), Factor::diagonal(vec![0.0; 3]));
        for rule in [DampingRule::Pi, DampingRule::Plain, DampingRule::Exact] {
            let result = damped_inverses(&g, &a, 0.0, rule);
            assert!(matches!(result, Err(Error::Linalg { .. })), "{rule:?}");
        }
    }
}
