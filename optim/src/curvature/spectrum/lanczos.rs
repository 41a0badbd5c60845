//! Eigenvalues and spectral density of a symmetric matrix, from products with it alone.
//!
//! Lanczos 1950, with full reorthogonalisation (done twice: Parlett 1980), from a unit vector q₁:
//!
//! ```text
//! β q_{j+1} = A q_j − α_j q_j − β_{j−1} q_{j−1},  α_j = q_jᵀ A q_j         A Q = Q T + β q eᵀ
//! θ, s: eigenpairs of the tridiagonal T           θ ≈ λ, up to β |s_k| (k the last row)
//! vᵀ f(A) v ≈ |v|² Σ s₁² f(θ)                     Gauss quadrature: exact for degrees below 2k
//! ```
//! The mean over random signs v turns the last line into 1/n tr f(A), hence the weights s₁² at θ into the
//! spectral density: stochastic Lanczos quadrature, Ubaru, Chen & Saad 2017; for networks, Ghorbani,
//! Krishnan & Xiao 2019, Papyan 2019.

use engine::{Result, Rng};
use kernels::linalg;

use super::trace::signs;
use crate::algebra::dense::failed;
use crate::algebra::flat::dot;

/// What a Krylov space knows of a matrix.
#[derive(Debug, Clone, PartialEq)]
pub struct Ritz {
    /// θ, ascending. The outermost come near first.
    pub values: Vec<f64>,
    /// s₁² of each, which sum to 1.
    pub weights: Vec<f64>,
    /// β |s_k| of each: some eigenvalue is within this of θ.
    pub bounds: Vec<f64>,
}

/// At most `steps` products; fewer if the space is exhausted before.
///
/// # Errors
/// Those of `product`; [`Error::Linalg`](engine::Error::Linalg) for numbers that are not finite.
///
/// # Example
/// ```
/// use alcyon_optim::curvature::lanczos;
/// let product = |v: &[f64]| Ok(vec![2.0 * v[0] + v[1], v[0] + 2.0 * v[1]]);
/// let ritz = lanczos(product, &[1.0, 0.0], 5)?;
/// assert!((ritz.values[0] - 1.0).abs() < 1e-12 && (ritz.values[1] - 3.0).abs() < 1e-12);
/// # Ok::<(), engine::Error>(())
/// ```
pub fn lanczos(
    mut product: impl FnMut(&[f64]) -> Result<Vec<f64>>,
    start: &[f64],
    steps: usize,
) -> Result<Ritz> {
    let length = dot(start, start).sqrt();
    let mut basis: Vec<Vec<f64>> = Vec::new();
    let (mut alphas, mut betas): (Vec<f64>, Vec<f64>) = (Vec::new(), Vec::new());
    let mut next: Vec<f64> = start.iter().map(|x| x / length).collect();
    while length > 0.0 && alphas.len() < steps.min(start.len()) {
        basis.push(next);
        let q = &basis[basis.len() - 1];
        let mut w = product(q)?;
        alphas.push(dot(q, &w));
        project_out(&mut w, &basis);
        let beta = dot(&w, &w).sqrt();
        betas.push(beta);
        // What is left is rounding: the space is invariant.
        let size = alphas.iter().chain(&betas).fold(0.0_f64, |s, x| s.max(x.abs()));
        if beta <= f64::EPSILON * size * start.len() as f64 {
            break;
        }
        next = w.iter().map(|x| x / beta).collect();
    }
    ritz(&alphas, &betas)
}

/// w minus its parts along an orthonormal basis, twice over: once leaves what rounding put in.
pub(in crate::curvature) fn project_out(w: &mut [f64], basis: &[Vec<f64>]) {
    for _ in 0..2 {
        for q in basis {
            let along = dot(q, w);
            w.iter_mut().zip(q).for_each(|(w, q)| *w -= along * q);
        }
    }
}

/// The eigenpairs of T; β of the last step is what is left over.
fn ritz(alphas: &[f64], betas: &[f64]) -> Result<Ritz> {
    let k = alphas.len();
    let mut t = vec![0.0; k * k];
    for (i, alpha) in alphas.iter().enumerate() {
        t[i * k + i] = *alpha;
        if i + 1 < k {
            (t[i * k + i + 1], t[(i + 1) * k + i]) = (betas[i], betas[i]);
        }
    }
    let eigen = linalg::symmetric_eigen(&t, k).map_err(|e| failed(&e))?;
    let row = |i: usize| eigen.vectors[i * k..(i + 1) * k].iter();
    let (weights, bounds) = match betas.last() {
        Some(beta) => {
            (row(0).map(|s| s * s).collect(), row(k - 1).map(|s| beta * s.abs()).collect())
        }
        None => (Vec::new(), Vec::new()),
    };
    Ok(Ritz { values: eigen.values, weights, bounds })
}

/// A spectral density: weights that sum to 1, at places.
#[derive(Debug, Clone, PartialEq)]
pub struct Density {
    /// (λ, weight), in ascending order of λ.
    pub nodes: Vec<(f64, f64)>,
}

/// The density of the eigenvalues of an n × n matrix, from `probes` random sign vectors and `steps`
/// products for each.
///
/// # Errors
/// As [`lanczos`].
pub fn spectral_density(
    mut product: impl FnMut(&[f64]) -> Result<Vec<f64>>,
    n: usize,
    probes: usize,
    steps: usize,
    rng: &mut Rng,
) -> Result<Density> {
    let mut nodes = Vec::with_capacity(probes * steps);
    for _ in 0..probes {
        let found = lanczos(&mut product, &signs(n, rng)?, steps)?;
        let weighted = found.values.into_iter().zip(found.weights);
        nodes.extend(weighted.map(|(value, weight)| (value, weight / probes as f64)));
    }
    nodes.sort_by(|x, y| x.0.total_cmp(&y.0));
    Ok(Density { nodes })
}

impl Density {
    /// 1/n tr f(A)
    #[must_use]
    pub fn mean(&self, f: impl Fn(f64) -> f64) -> f64 {
        self.nodes.iter().map(|(value, weight)| weight * f(*value)).sum()
    }

    /// The density at x, with each node spread to a normal density of this deviation.
    #[must_use]
    pub fn at(&self, x: f64, deviation: f64) -> f64 {
        let scale = 1.0 / (deviation * std::f64::consts::TAU.sqrt());
        self.mean(|value| scale * (-0.5 * ((x - value) / deviation).powi(2)).exp())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::algebra::dense::apply;
    use engine::{DType, Tensor};

    /// A symmetric matrix with full, non-commuting entries.
    fn symmetric(n: usize) -> Vec<f64> {
        let x = Tensor::normal([n * n], 0.0, 1.0, DType::F64, &mut Rng::new(3));
        let x = x.to_f64_vec().unwrap();
        (0..n * n).map(|k| 0.5 * (x[k] + x[k % n * n + k / n])).collect()
    }

    #[test]
    fn as_many_steps_as_rows_find_all_eigenvalues() {
        let n = 20;
        let a = symmetric(n);
        let start: Vec<f64> = (0..n).map(|i| 1.0 + i as f64).collect();
        let found = lanczos(|v| Ok(apply(&a, v)), &start, n + 5).unwrap();
        let exact = linalg::symmetric_eigen(&a, n).unwrap().values;
        assert_eq!(found.values.len(), n);
        for ((x, y), bound) in found.values.iter().zip(&exact).zip(&found.bounds) {
            assert!((x - y).abs() < 1e-10 && *bound < 1e-8, "{x} {y} {bound}");
        }
    }

    #[test]
    fn every_ritz_value_is_as_near_to_an_eigenvalue_as_its_bound_says() {
        let n = 30;
        let a = symmetric(n);
        let exact = linalg::symmetric_eigen(&a, n).unwrap().values;
        let found = lanczos(|v| Ok(apply(&a, v)), &vec![1.0; n], 8).unwrap();
        assert_eq!(found.values.len(), 8);
        for (theta, bound) in found.values.iter().zip(&found.bounds) {
            let near = exact.iter().map(|x| (x - theta).abs()).fold(f64::INFINITY, f64::min);
            assert!(near <= bound + 1e-12, "{theta}: {near} > {bound}");
        }
    }

    #[test]
    fn an_eigenvector_to_start_from_is_one_step() {
        let product = |v: &[f64]| Ok(vec![2.0 * v[0], 5.0 * v[1], 7.0 * v[2]]);
        let found = lanczos(product, &[0.0, 3.0, 0.0], 3).unwrap();
        assert_eq!(found, Ritz { values: vec![5.0], weights: vec![1.0], bounds: vec![0.0] });
        assert!(lanczos(product, &[0.0; 3], 3).unwrap().values.is_empty());
    }

    #[test]
    fn the_weights_are_a_quadrature_that_is_exact_below_twice_the_steps() {
        let n = 16;
        let a = symmetric(n);
        let v: Vec<f64> = (0..n).map(|i| (i as f64).cos()).collect();
        let found = lanczos(|v| Ok(apply(&a, v)), &v, 3).unwrap();
        let mut power = v.clone();
        for degree in 0..6 {
            let exact = dot(&v, &power) / dot(&v, &v);
            let terms = found.values.iter().zip(&found.weights);
            let got: f64 = terms.map(|(x, w)| w * x.powi(degree)).sum();
            assert!((got - exact).abs() < 1e-9 * exact.abs().max(1.0), "{degree}: {got} {exact}");
            power = apply(&a, &power);
        }
    }

    #[test]
    fn a_density_sums_to_one_and_has_the_matrix_s_moments_up_to_its_probes() {
        let n = 24;
        let a = symmetric(n);
        let product = |v: &[f64]| Ok(apply(&a, v));
        let density = spectral_density(product, n, 400, n, &mut Rng::new(5)).unwrap();
        assert!((density.mean(|_| 1.0) - 1.0).abs() < 1e-12);
        let squares = dot(&a, &a) / n as f64;
        // The deviation of vᵀA²v is below √2 ‖A²‖, and 400 are averaged: four deviations.
        let (got, spread) = (density.mean(|x| x * x), 4.0 * 2.0_f64.sqrt() * squares / 20.0);
        assert!((got - squares).abs() < spread, "{got} {squares}");
        // As a function of x it integrates to 1, too.
        let integral: f64 =
            (-4000..4000).map(|i| 0.01 * density.at(0.01 * f64::from(i), 0.3)).sum();
        assert!((integral - 1.0).abs() < 1e-9, "{integral}");
    }
}
