//! The trace of a matrix, from products with it alone.
//!
//! ```text
//! Hutchinson   1/k Σ zᵀ A z,  z = ±1                      error ~ √2 ‖A‖ / √k: Hutchinson 1990
//! Hutch++      tr QᵀAQ + 1/k Σ (Pz)ᵀ A (Pz),  P = I − QQᵀ   error ~ tr A / k: Meyer et al. 2021, Algorithm 1
//! ```
//! Q spans A's products with k other sign vectors: where most of the trace is in a few directions, as in
//! the curvature of networks, these are taken exactly and only the rest is sampled.

use engine::{DType, Error, Result, Rng, Tensor};

use super::lanczos::project_out;
use crate::algebra::flat::dot;

/// An estimate, and the standard error of what of it is sampled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Trace {
    /// tr A
    pub value: f64,
    /// The deviation of the samples over √k; infinite for a single one.
    pub error: f64,
}

/// Hutchinson's estimate of the trace of an n × n matrix, from `probes` products.
///
/// # Errors
/// Those of `product`; [`Error::Argument`] for no probes.
///
/// # Example
/// ```
/// use alcyon_optim::curvature::hutchinson;
/// use engine::Rng;
/// // Of a diagonal matrix every sign vector gives the trace itself.
/// let product = |v: &[f64]| Ok(vec![2.0 * v[0], 3.0 * v[1]]);
/// let trace = hutchinson(product, 2, 4, &mut Rng::new(0))?;
/// assert_eq!((trace.value, trace.error), (5.0, 0.0));
/// # Ok::<(), engine::Error>(())
/// ```
pub fn hutchinson(
    mut product: impl FnMut(&[f64]) -> Result<Vec<f64>>,
    n: usize,
    probes: usize,
    rng: &mut Rng,
) -> Result<Trace> {
    at_least("hutchinson", probes, 1)?;
    let mut samples = Vec::with_capacity(probes);
    for _ in 0..probes {
        let z = signs(n, rng)?;
        samples.push(dot(&z, &product(&z)?));
    }
    Ok(mean(&samples))
}

/// Hutch++ from at most `products` products, a third for each of its parts.
///
/// # Errors
/// Those of `product`; [`Error::Argument`] for fewer than three products.
pub fn hutch_plus_plus(
    mut product: impl FnMut(&[f64]) -> Result<Vec<f64>>,
    n: usize,
    products: usize,
    rng: &mut Rng,
) -> Result<Trace> {
    at_least("hutch++", products, 3)?;
    let k = products / 3;
    let mut basis: Vec<Vec<f64>> = Vec::new();
    let mut exact = 0.0;
    for _ in 0..k {
        let mut q = product(&signs(n, rng)?)?;
        let before = dot(&q, &q).sqrt();
        project_out(&mut q, &basis);
        let length = dot(&q, &q).sqrt();
        // Nothing new but rounding: A's range is spanned already.
        if length <= f64::EPSILON * before * n as f64 {
            continue;
        }
        q.iter_mut().for_each(|x| *x /= length);
        exact += dot(&q, &product(&q)?);
        basis.push(q);
    }
    let mut samples = Vec::with_capacity(k);
    for _ in 0..k {
        let mut z = signs(n, rng)?;
        project_out(&mut z, &basis);
        samples.push(dot(&z, &product(&z)?));
    }
    let rest = mean(&samples);
    Ok(Trace { value: exact + rest.value, error: rest.error })
}

/// n random signs.
pub(in crate::curvature) fn signs(n: usize, rng: &mut Rng) -> Result<Vec<f64>> {
    let draws = Tensor::uniform([n], -1.0, 1.0, DType::F64, rng).to_f64_vec()?;
    Ok(draws.iter().map(|&u| if u < 0.0 { -1.0 } else { 1.0 }).collect())
}

fn mean(samples: &[f64]) -> Trace {
    let k = samples.len() as f64;
    let value = samples.iter().sum::<f64>() / k;
    let squares: f64 = samples.iter().map(|x| (x - value).powi(2)).sum();
    let error = if samples.len() > 1 { (squares / (k - 1.0) / k).sqrt() } else { f64::INFINITY };
    Trace { value, error }
}

fn at_least(op: &'static str, got: usize, least: usize) -> Result<()> {
    if got >= least {
        return Ok(());
    }
    let (name, got) = ("products", got.to_string());
    Err(Error::Argument { op, name, expected: "at least 1 (Hutch++: 3)", got })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::dense::{apply, product as matrix_product, trace};

    /// XᵀX of an X `[rank, n]`.
    fn gram(rank: usize, n: usize) -> kernels::pool::Buffer<f64> {
        let x = Tensor::normal([rank, n], 0.0, 1.0, DType::F64, &mut Rng::new(7));
        let x = x.to_f64_vec().unwrap();
        matrix_product(&x, (rank, n), true, &x, (rank, n), false)
    }

    #[test]
    fn hutch_plus_plus_is_exact_when_the_rank_is_no_more_than_a_third_of_the_products() {
        let (n, rank) = (40, 5);
        let a = gram(rank, n);
        let product = |v: &[f64]| Ok(apply(&a, v));
        let found = hutch_plus_plus(product, n, 3 * rank, &mut Rng::new(1)).unwrap();
        let exact = trace(&a, n);
        assert!((found.value - exact).abs() < 1e-9 * exact, "{found:?} {exact}");
        assert!(found.error < 1e-9 * exact);
        // More products than there is to span do no harm.
        let more = hutch_plus_plus(product, n, 6 * rank, &mut Rng::new(1)).unwrap();
        assert!((more.value - exact).abs() < 1e-9 * exact, "{more:?}");
    }

    #[test]
    fn both_estimates_are_within_their_own_errors_and_hutch_plus_plus_has_the_smaller_one() {
        let n = 60;
        // A few large eigenvalues over many small ones, as a network's curvature.
        let (few, many) = (gram(3, n), gram(n, n));
        let a: Vec<f64> = few.iter().zip(&*many).map(|(x, y)| 30.0 * x + 0.1 * y).collect();
        let exact = trace(&a, n);
        let product = |v: &[f64]| Ok(apply(&a, v));
        let plain = hutchinson(product, n, 90, &mut Rng::new(2)).unwrap();
        let better = hutch_plus_plus(product, n, 90, &mut Rng::new(2)).unwrap();
        for found in [plain, better] {
            assert!((found.value - exact).abs() < 4.0 * found.error, "{found:?} {exact}");
        }
        assert!(better.error < 0.1 * plain.error, "{better:?} {plain:?}");
    }

    #[test]
    fn too_few_products_are_refused() {
        let product = |v: &[f64]| Ok(v.to_vec());
        let rng = &mut Rng::new(0);
        assert!(matches!(hutchinson(product, 2, 0, rng), Err(Error::Argument { .. })));
        assert!(matches!(hutch_plus_plus(product, 2, 2, rng), Err(Error::Argument { .. })));
        assert_eq!(hutchinson(product, 2, 1, rng).unwrap().error, f64::INFINITY);
    }
}
