//! KL-Shampoo: Shampoo whose two factors are fitted to each other.
//!
//! Lin, Lowe, Dangel, Eschenhagen, Xu & Grosse 2025, "Understanding and Improving Shampoo and SOAP via
//! Kullback–Leibler Minimization", section 3: the factors that bring a normal distribution with the
//! covariance L ⊗ R nearest to the gradients', in the Kullback–Leibler sense, satisfy
//!
//! ```text
//! L ← β₂ L + (1 − β₂) g R⁻¹ gᵀ / columns
//! R ← β₂ R + (1 − β₂) gᵀ L⁻¹ g / rows
//! M ← β₁ M + (1 − β₁) g
//! θ ← θ − α (L^(−1/2) M̂ R^(−1/2) + κ θ)
//! ```
//! Both start from the identity; ε is added to eigenvalues in inverses and roots, which come from an
//! eigendecomposition every `root_every` steps. Deviations: exact eigendecompositions where the authors
//! use QR; both updates use the factors before the step; a tensor of more axes is a matrix of its first
//! axis against all others; vectors get Adam without a first root: R is the diagonal E\[g²\].

use engine::{DType, Parameter, Result, Tensor};
use kernels::linalg;

use crate::curvature::precondition::failed;
use crate::matrix::product;
use crate::moments::{below_one, correction, not_negative, positive};
use crate::muon::sides;
use crate::per_parameter::{PerParameter, Rule, Start};
use crate::soap::descend;

/// Options of [`KlShampoo`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KlShampooConfig {
    /// α: the length of a step in every whitened entry.
    pub rate: f64,
    /// β₁ in [0, 1)
    pub beta1: f64,
    /// β₂ in [0, 1)
    pub beta2: f64,
    /// ε, in units of the factors.
    pub epsilon: f64,
    /// κ, decoupled.
    pub weight_decay: f64,
    /// Steps between two eigendecompositions.
    pub root_every: u64,
}

impl Default for KlShampooConfig {
    /// α 10⁻³, β 0.95 and 0.95, ε 10⁻⁸, every 10 steps, as SOAP has them.
    fn default() -> Self {
        Self {
            rate: 1e-3,
            beta1: 0.95,
            beta2: 0.95,
            epsilon: 1e-8,
            weight_decay: 0.0,
            root_every: 10,
        }
    }
}

/// KL-Shampoo.
///
/// # Example
/// ```
/// use engine::{DType, Gradients, Parameter, Tensor};
/// use alcyon_optim::{KlShampoo, KlShampooConfig, Optimizer};
/// let mut weight = Parameter::new(Tensor::zeros([1, 1], DType::F64));
/// let mut optimizer = KlShampoo::new(KlShampooConfig { root_every: 1, ..KlShampooConfig::default() })?;
/// let mut grads = Gradients::default();
/// grads.set(&weight, Tensor::full([1, 1], 10.0, DType::F64));
/// for _ in 0..500 {
///     optimizer.step(&mut weight, &grads)?;
/// }
/// let before = weight.value().item()?;
/// optimizer.step(&mut weight, &grads)?;
/// let length = (before - weight.value().item()?) / 1e-3;
/// assert!((length - 1.0).abs() < 0.01); // whitened: L R = g²
/// # Ok::<(), engine::Error>(())
/// ```
pub type KlShampoo = PerParameter<KlShampooConfig>;

impl Rule for KlShampooConfig {
    const MAY_FAIL: bool = true;

    fn name(&self) -> &'static str {
        "kl-shampoo"
    }

    fn check(&self) -> Result<()> {
        below_one("kl-shampoo", "beta1", self.beta1)?;
        below_one("kl-shampoo", "beta2", self.beta2)?;
        positive("kl-shampoo", "epsilon", self.epsilon)?;
        not_negative("kl-shampoo", "weight_decay", self.weight_decay)
    }

    fn rate(&self) -> f64 {
        self.rate
    }

    fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    fn words(&self, parameter: &Parameter) -> String {
        match sides(parameter.value().shape()) {
            Some((rows, columns)) => format!("Kronecker by Kullback–Leibler, {rows} ⊗ {columns}"),
            None => "first and root of second moment".into(),
        }
    }

    /// M; of a matrix L, R, their inverses and inverse roots, of a vector v.
    fn start(&self, parameter: &Parameter) -> Start {
        let shape = parameter.value().shape();
        let zeros = || Tensor::zeros(*shape, DType::F64);
        let Some((rows, columns)) = sides(shape) else {
            return vec![("m", zeros()), ("v", zeros())];
        };
        let mut start = vec![("m", zeros())];
        for (n, names) in
            [(rows, ["l", "l_inverse", "l_root"]), (columns, ["r", "r_inverse", "r_root"])]
        {
            start.extend(names.map(|name| (name, Tensor::eye(n, DType::F64))));
        }
        start
    }

    fn update(&self, t: u64, value: &mut Tensor, grad: &Tensor, kept: &mut [Tensor]) -> Result<()> {
        let g = grad.to_f64_vec()?;
        let [m, rest @ ..] = kept else { return Ok(()) };
        let m = m.make_mut::<f64>()?;
        m.iter_mut().zip(&g).for_each(|(m, g)| *m = self.beta1 * *m + (1.0 - self.beta1) * g);
        let size = self.rate / correction(self.beta1, t);
        let direction = match (rest, sides(value.shape())) {
            ([l, l_inverse, l_root, r, r_inverse, r_root], Some((rows, columns))) => {
                let shape = (rows, columns);
                let right =
                    product(&g, shape, false, r_inverse.as_slice()?, (columns, columns), false);
                let left = product(l_inverse.as_slice()?, (rows, rows), false, &g, shape, false);
                let new_l = product(&right, shape, false, &g, shape, true);
                let new_r = product(&g, shape, true, &left, shape, false);
                self.average(l, &new_l, columns)?;
                self.average(r, &new_r, rows)?;
                if (t - 1).is_multiple_of(self.root_every.max(1)) {
                    for (factor, inverse, root) in
                        [(&*l, l_inverse, &mut *l_root), (&*r, r_inverse, &mut *r_root)]
                    {
                        let (n, factor) = (factor.shape()[0], factor.as_slice::<f64>()?);
                        let power = |p: f64| {
                            linalg::power(factor, n, p, self.epsilon).map_err(|e| failed(&e))
                        };
                        *inverse = Tensor::from_vec(power(-1.0)?, [n, n])?;
                        *root = Tensor::from_vec(power(-0.5)?, [n, n])?;
                    }
                }
                let half = product(l_root.as_slice()?, (rows, rows), false, m, shape, false);
                product(&half, shape, false, r_root.as_slice()?, (columns, columns), false)
            }
            ([v], _) => {
                let v = v.make_mut::<f64>()?;
                let fresh = 1.0 - self.beta2;
                v.iter_mut().zip(&g).for_each(|(v, g)| *v = self.beta2 * *v + fresh * g * g);
                let bias = correction(self.beta2, t);
                m.iter().zip(v).map(|(m, v)| m / ((*v / bias).sqrt() + self.epsilon)).collect()
            }
            _ => return Ok(()),
        };
        descend_decayed(value, &direction, size, self.rate * self.weight_decay)
    }
}

impl KlShampooConfig {
    /// F ← β₂ F + (1 − β₂) new / count
    fn average(&self, factor: &mut Tensor, new: &[f64], count: usize) -> Result<()> {
        let fresh = (1.0 - self.beta2) / count.max(1) as f64;
        let entries = factor.make_mut::<f64>()?.iter_mut().zip(new);
        entries.for_each(|(f, x)| *f = self.beta2 * *f + fresh * x);
        Ok(())
    }
}

/// θ ← (1 − decay) θ − size · direction
fn descend_decayed(value: &mut Tensor, direction: &[f64], size: f64, decay: f64) -> Result<()> {
    let keep = 1.0 - decay;
    descend(value, direction, size / keep, keep)
}
