//! Sophia: momentum over curvature, entry by entry, never longer than one.
//!
//! Liu, Li, Hall, Liang & Ma 2024, "Sophia: A Scalable Stochastic Second-order Optimizer for Language
//! Model Pre-training", Algorithms 1 to 3.
//!
//! ```text
//! m ← β₁ m + (1 − β₁) g
//! h ← β₂ h + (1 − β₂) ĥ                      every `estimate_every` steps
//! θ ← (1 − α κ) θ
//! θ ← θ − α clip(m / (ρ max(h, 0)), 1)        where h ≤ 0: along the sign of m
//! ```
//! ĥ is the Gauss–Newton–Bartlett estimate (Sophia-G) or Hutchinson's (Sophia-H). The number of terms
//! that the authors' program multiplies ĝ² by at the step is in ĥ here. As in Algorithm 3, the estimate of
//! a step counts in that step; their program has it count from the next.

use engine::{Parameter, Result, Tensor, for_float};
use kernels::Float as _;
#[cfg(feature = "cuda")]
use kernels::cuda::{Gpu, rule, step::Moving};

use crate::algebra::on_tensors::mix;
use crate::check::{below_one, not_negative, positive};
use crate::curvature::estimate::hessian_diagonal::{HessianDiagonal, Probe};
use crate::frame::per_parameter::{Rule, Start, each_entry, zeros};
use crate::frame::second_diagonal::{DiagonalRule, SecondDiagonal};

/// What keeps ρ h from zero, as in the authors' program.
const FLOOR: f64 = 1e-15;

/// Options of [`Sophia`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SophiaConfig {
    /// α: the longest step in every entry.
    pub rate: f64,
    /// β₁ in [0, 1)
    pub beta1: f64,
    /// β₂ in [0, 1), per estimate.
    pub beta2: f64,
    /// ρ: the smaller, the more entries are clipped.
    pub rho: f64,
    /// κ, decoupled.
    pub weight_decay: f64,
    /// Which estimate: `SampledLabels` is Sophia-G, `Hutchinson` Sophia-H.
    pub probe: Probe,
    /// Steps between two estimates.
    pub estimate_every: u64,
    /// The seed of labels or signs.
    pub seed: u64,
}

impl Default for SophiaConfig {
    /// Sophia-G with the authors' α 10⁻⁴, β 0.965 and 0.99, ρ 0.04, κ 0.1, every 10 steps.
    fn default() -> Self {
        Self {
            rate: 1e-4,
            beta1: 0.965,
            beta2: 0.99,
            rho: 0.04,
            weight_decay: 0.1,
            probe: Probe::SampledLabels,
            estimate_every: 10,
            seed: 0,
        }
    }
}

impl SophiaConfig {
    /// Sophia-H: the paper's β₁ 0.96 and ρ 0.01.
    #[must_use]
    pub fn hutchinson() -> Self {
        Self { probe: Probe::Hutchinson, beta1: 0.96, rho: 0.01, ..Self::default() }
    }
}

/// Sophia. Without estimates (gradients that do not come from [`backward`](crate::backward())) it is
/// descent along the sign of m.
///
/// # Example
/// ```
/// use engine::{Gradients, Parameter, Tensor};
/// use alcyon_optim::{Optimizer, Sophia, SophiaConfig};
/// let mut weight = Parameter::new(Tensor::from_slice(&[1.0, 1.0], [2])?);
/// let config = SophiaConfig { rate: 0.5, beta1: 0.0, beta2: 0.0, rho: 1.0, weight_decay: 0.0,
///     ..SophiaConfig::default() };
/// let mut sophia = Sophia::new(config)?;
/// let mut grads = Gradients::default();
/// grads.set(&weight, Tensor::from_slice(&[2.0, 2.0], [2])?);
/// if let Some(estimator) = sophia.hessian_diagonal() {
///     estimator.add(weight.id(), vec![8.0, 0.1], 1); // as `backward` does
///     estimator.finish(1);
/// }
/// sophia.step(&mut weight, &grads)?;
/// let moved = weight.value().to_vec::<f64>()?; // Newton's step, and a clipped one
/// assert!((moved[0] - 0.875).abs() < 1e-12 && (moved[1] - 0.5).abs() < 1e-12);
/// # Ok::<(), engine::Error>(())
/// ```
pub type Sophia = SecondDiagonal<SophiaConfig>;

impl Rule for SophiaConfig {
    fn name(&self) -> &'static str {
        match self.probe {
            Probe::SampledLabels => "sophia",
            Probe::Hutchinson => "sophia-h",
        }
    }

    fn check(&self) -> Result<()> {
        below_one("sophia", "beta1", self.beta1)?;
        below_one("sophia", "beta2", self.beta2)?;
        positive("sophia", "rho", self.rho)?;
        not_negative("sophia", "weight_decay", self.weight_decay)
    }

    fn rate(&self) -> f64 {
        self.rate
    }

    fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    fn words(&self, _: &Parameter) -> String {
        "first moment over curvature, clipped".into()
    }

    fn start(&self, parameter: &Parameter) -> Start {
        zeros(parameter, &["m", "h"])
    }

    fn update(&self, _: u64, value: &mut Tensor, grad: &Tensor, kept: &mut [Tensor]) -> Result<()> {
        for_float!(grad.dtype(), T => {
            let [beta1, fresh1, rho] = [self.beta1, 1.0 - self.beta1, self.rho].map(T::of);
            let [rate, floor] = [self.rate, FLOOR].map(T::of);
            let decay = T::of(1.0 - self.rate * self.weight_decay);
            each_entry(value, grad, kept, |g: T, [theta, m, h]| {
                *m = beta1 * *m + fresh1 * g;
                let size = (m.abs() / (rho * h.max(T::ZERO) + floor)).min(T::ONE);
                *theta = decay * *theta - rate * size * kernels::Float::signum(*m);
            })
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, parameters: &[Moving<'_>]) -> Result<()> {
        let Self { rate, beta1, rho, weight_decay, .. } = *self;
        let numbers = [beta1, 1.0 - beta1, rho, FLOOR, rate, 1.0 - rate * weight_decay];
        Ok(rule::step(gpu, parameters, &rule::SOPHIA, numbers, |_| (0.0, 0.0))?)
    }
}

impl DiagonalRule for SophiaConfig {
    const NEEDS_ESTIMATE: bool = false;

    fn estimator(&self) -> HessianDiagonal {
        HessianDiagonal::new(self.probe, self.estimate_every, self.seed)
    }

    /// h ← β₂ h + (1 − β₂) ĥ
    fn absorb(&self, estimate: &[f64], kept: &mut [Tensor]) -> Result<()> {
        let [_, h] = kept else { return Ok(()) };
        let estimate = Tensor::from_slice(estimate, *h.shape())?.to_dtype(h.dtype())?;
        *h = mix(self.beta2, h, 1.0 - self.beta2, &estimate.to_device(h.device())?)?;
        Ok(())
    }
}
