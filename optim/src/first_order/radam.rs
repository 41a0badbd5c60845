//! RAdam: Adam that waits with its second moment until that can be trusted.
//!
//! Liu, Jiang, He, Chen, Liu, Gao & Han 2020, "On the Variance of the Adaptive Learning Rate and
//! Beyond", Algorithm 2.
//!
//! ```text
//! m ← β₁ m + (1 − β₁) g,   v ← β₂ v + (1 − β₂) g²
//! ρ∞ = 2/(1 − β₂) − 1,     ρ = ρ∞ − 2 t β₂ᵗ/(1 − β₂ᵗ)
//! r  = √((ρ − 4)(ρ − 2) ρ∞ / ((ρ∞ − 4)(ρ∞ − 2) ρ))
//! θ ← θ − α r m̂ / (√v̂ + ε)     if ρ > 5,  else   θ ← θ − α m̂
//! ```
//! The algorithm box has ρ > 4, from where on the variance is finite; the authors' program waits for 5, where it is
//! small, and PyTorch follows it. Both are values of [`RAdamConfig::threshold`]. Deviations: ε, which the paper
//! leaves out; weight decay κ is decoupled, or g ← g + κ θ ([`RAdamConfig::decoupled`]).

use engine::{Parameter, Result, Tensor, for_float};
use kernels::Float as _;
#[cfg(feature = "cuda")]
use kernels::cuda::{Gpu, rule, step::Moving};

use crate::algebra::dense::correction;
use crate::check::{below_one, demand, not_negative, positive};
use crate::frame::per_parameter::{PerParameter, Rule, Start, each_entry, zeros};

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
    /// κ
    pub weight_decay: f64,
    /// Whether κ acts on the parameter, θ ← (1 − α κ) θ. PyTorch's default is false: κ θ is added to the gradient.
    pub decoupled: bool,
    /// What ρ has to be above: 5, the authors' program's; 4 for the paper's algorithm box.
    pub threshold: f64,
}

impl Default for RAdamConfig {
    /// Adam's: α 10⁻³, β 0.9 and 0.999, ε 10⁻⁸; no decay; the authors' threshold.
    fn default() -> Self {
        Self {
            rate: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            decoupled: true,
            threshold: THRESHOLD,
        }
    }
}

impl RAdamConfig {
    /// r of step t; `None` while 1/√v̂ cannot be trusted.
    ///
    /// # Example
    /// ```
    /// let config = alcyon_optim::RAdamConfig::default();
    /// assert_eq!(config.rectification(5), None);
    /// let paper = alcyon_optim::RAdamConfig { threshold: 4.0, ..config };
    /// assert!(paper.rectification(5).is_some());
    /// let late = config.rectification(1_000_000).unwrap();
    /// assert!((late - 1.0).abs() < 1e-12);
    /// ```
    #[must_use]
    pub fn rectification(&self, t: u64) -> Option<f64> {
        rectification(self.beta2, self.threshold, t)
    }

    /// 1 − α κ, and the κ of the gradient.
    const fn decays(&self) -> [f64; 2] {
        let Self { rate, weight_decay, .. } = *self;
        if self.decoupled { [1.0 - rate * weight_decay, 0.0] } else { [1.0, weight_decay] }
    }
}

/// The authors' program's.
pub(crate) const THRESHOLD: f64 = 5.0;

/// r of step t, if ρ is above a threshold.
pub(crate) fn rectification(beta2: f64, threshold: f64, t: u64) -> Option<f64> {
    let longest = 2.0 / (1.0 - beta2) - 1.0;
    let power = 1.0 - correction(beta2, t);
    let length = longest - 2.0 * t as f64 * power / (1.0 - power);
    let variance = |rho: f64| (rho - 4.0) * (rho - 2.0) / rho;
    (length > threshold).then(|| (variance(length) / variance(longest)).sqrt())
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
        not_negative("radam", "weight_decay", self.weight_decay)?;
        let finite = self.threshold >= 4.0;
        demand("radam", "threshold", self.threshold, "at least 4: a finite variance", finite)
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
            let ([kept_part, kappa], plain) = (self.decays().map(T::of), T::of(size));
            let scaled = rectified.map(|r| T::of(size * r));
            each_entry(value, grad, kept, |g: T, [theta, m, v]| {
                let g = g + kappa * *theta;
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
        let (Self { rate, beta1, beta2, epsilon, .. }, [kept, kappa]) = (*self, self.decays());
        let numbers = [beta1, beta2, epsilon, kept, kappa];
        let own = |t| {
            let size = rate / correction(beta1, t);
            self.rectification(t).map_or((size, 0.0), |r| (size * r, correction(beta2, t).sqrt()))
        };
        Ok(rule::step(gpu, parameters, &rule::RADAM, numbers, own)?)
    }
}
