//! RAdam: Adam that waits with its second moment until that can be trusted.
//!
//! Liu, Jiang, He, Chen, Liu, Gao & Han 2020, "On the Variance of the Adaptive Learning Rate and
//! Beyond", Algorithm 2.
//!
//! ```text
//! m ← β₁ m + (1 − β₁) g,   v ← β₂ v + (1 − β₂) g²
//! ρ∞ = 2/(1 − β₂) − 1,     ρ = ρ∞ − 2 t β₂ᵗ/(1 − β₂ᵗ)
//! r  = √((ρ − 4)(ρ − 2) ρ∞ / ((ρ∞ − 4)(ρ∞ − 2) ρ))
//! θ ← θ − α r m̂ / (√v̂ + ε)     if ρ > 4,  else   θ ← θ − α m̂
//! ```
//! Deviations: ε, which the paper leaves out; weight decay κ is decoupled.

use engine::{Parameter, Result, Tensor, for_float};
use kernels::Float as _;
#[cfg(feature = "cuda")]
use kernels::cuda::{Gpu, rule, step::Moving};

use crate::moments::{below_one, correction, not_negative, positive};
use crate::per_parameter::{PerParameter, Rule, Start, each_entry, zeros};

/// Options of [`RAdam`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RAdamConfig {
    /// α
    pub rate: f64,
    /// β₁ in [0, 1)
    pub beta1: f64,
    /// β₂ in [0, 1)
    pub beta2: f64,
    /// ε, in units of the gradient.
    pub epsilon: f64,
    /// κ, decoupled: θ ← (1 − α κ) θ.
    pub weight_decay: f64,
}

impl Default for RAdamConfig {
    /// Adam's: α 10⁻³, β 0.9 and 0.999, ε 10⁻⁸.
    fn default() -> Self {
        Self { rate: 1e-3, beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0 }
    }
}

impl RAdamConfig {
    /// r of step t; `None` while the variance of 1/√v̂ is not finite.
    ///
    /// # Example
    /// ```
    /// let config = alcyon_optim::RAdamConfig::default();
    /// assert_eq!(config.rectification(4), None);
    /// let late = config.rectification(1_000_000).unwrap();
    /// assert!((late - 1.0).abs() < 1e-12);
    /// ```
    #[must_use]
    pub fn rectification(&self, t: u64) -> Option<f64> {
        let longest = 2.0 / (1.0 - self.beta2) - 1.0;
        let power = 1.0 - correction(self.beta2, t);
        let length = longest - 2.0 * t as f64 * power / (1.0 - power);
        let variance = |rho: f64| (rho - 4.0) * (rho - 2.0) / rho;
        (length > 4.0).then(|| (variance(length) / variance(longest)).sqrt())
    }
}

/// Rectified Adam.
///
/// # Example
/// ```
/// use engine::{Gradients, Parameter, Tensor};
/// use alcyon_optim::{Optimizer, RAdam, RAdamConfig};
/// let mut weight = Parameter::new(Tensor::from_slice(&[1.0], [1])?);
/// let mut grads = Gradients::default();
/// grads.set(&weight, Tensor::from_slice(&[3.0], [1])?);
/// RAdam::new(RAdamConfig { rate: 0.125, ..RAdamConfig::default() })?.step(&mut weight, &grads)?;
/// assert!((weight.value().item()? - 0.625).abs() < 1e-12); // the first steps are the mean gradient's
/// # Ok::<(), engine::Error>(())
/// ```
pub type RAdam = PerParameter<RAdamConfig>;

impl Rule for RAdamConfig {
    fn name(&self) -> &'static str {
        "radam"
    }

    fn check(&self) -> Result<()> {
        below_one("radam", "beta1", self.beta1)?;
        below_one("radam", "beta2", self.beta2)?;
        positive("radam", "epsilon", self.epsilon)?;
        not_negative("radam", "weight_decay", self.weight_decay)
    }

    fn rate(&self) -> f64 {
        self.rate
    }

    fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    fn words(&self, _: &Parameter) -> String {
        "first and rectified root of second moment".into()
    }

    fn start(&self, parameter: &Parameter) -> Start {
        zeros(parameter, &["m", "v"])
    }

    fn update(&self, t: u64, value: &mut Tensor, grad: &Tensor, kept: &mut [Tensor]) -> Result<()> {
        let size = self.rate / correction(self.beta1, t);
        let root = correction(self.beta2, t).sqrt();
        let rectified = self.rectification(t);
        for_float!(grad.dtype(), T => {
            let [beta1, fresh1] = [self.beta1, 1.0 - self.beta1].map(T::of);
            let [beta2, fresh2] = [self.beta2, 1.0 - self.beta2].map(T::of);
            let [epsilon, root] = [self.epsilon, root].map(T::of);
            let (kept_part, plain) = (T::of(1.0 - self.rate * self.weight_decay), T::of(size));
            let scaled = rectified.map(|r| T::of(size * r));
            each_entry(value, grad, kept, |g: T, [theta, m, v]| {
                *m = beta1 * *m + fresh1 * g;
                *v = beta2 * *v + fresh2 * g * g;
                let step = match scaled {
                    Some(size) => size * *m / (v.sqrt() / root + epsilon),
                    None => plain * *m,
                };
                *theta = kept_part * *theta - step;
            })
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, parameters: &[Moving<'_>]) -> Result<()> {
        let Self { rate, beta1, beta2, epsilon, weight_decay } = *self;
        let kept = 1.0 - rate * weight_decay;
        let numbers = [beta1, 1.0 - beta1, beta2, 1.0 - beta2, epsilon, kept];
        let own = |t| {
            let size = rate / correction(beta1, t);
            self.rectification(t).map_or((size, 0.0), |r| (size * r, correction(beta2, t).sqrt()))
        };
        Ok(rule::step(gpu, parameters, &rule::RADAM, numbers, own)?)
    }
}
