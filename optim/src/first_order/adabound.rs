//! AdaBound: Adam whose rates are squeezed, over time, between bounds that meet in one rate.
//!
//! Luo, Xiong, Liu & Sun 2019, "Adaptive Gradient Methods with Dynamic Bound of Learning Rate",
//! Algorithm 2, and AMSBound, its variant with AMSGrad's maximum.
//!
//! ```text
//! m ← β₁ m + (1 − β₁) g,   v ← β₂ v + (1 − β₂) g²
//! η = clip(α √(1 − β₂ᵗ)/(1 − β₁ᵗ) / (√v + ε),  α* (1 − 1/(γ t + 1)),  α* (1 + 1/(γ t)))
//! θ ← θ − η m
//! ```
//! Deviations, both the authors' program's: moments are bias-corrected, and η is not divided by √t.
//! α* is a multiple of α here, so that a schedule moves both. Weight decay κ is the program's: coupled, g ← g + κ θ, or
//! decoupled (its AdaBoundW): θ ← (1 − κ) θ there, (1 − α κ) θ here, as everywhere.

use engine::{Parameter, Result, Tensor, for_float};
use kernels::Float as _;
#[cfg(feature = "cuda")]
use kernels::cuda::{Gpu, rule, step::Moving};

use crate::algebra::dense::correction;
use crate::check::{below_one, not_negative, positive};
use crate::frame::per_parameter::{PerParameter, Rule, Start, each_entry, zeros};

/// Options of [`AdaBound`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaBoundConfig {
    /// α, Adam's rate at the beginning.
    pub rate: f64,
    /// α*/α: SGD's rate at the end, in units of α.
    pub final_ratio: f64,
    /// β₁ in [0, 1)
    pub beta1: f64,
    /// β₂ in [0, 1)
    pub beta2: f64,
    /// ε, in units of the gradient.
    pub epsilon: f64,
    /// γ: how fast the bounds close, per step.
    pub closing: f64,
    /// AMSBound: divides by the largest second moment seen.
    pub amsbound: bool,
    /// κ
    pub weight_decay: f64,
    /// Whether κ acts on the parameter directly.
    pub decoupled: bool,
}

impl Default for AdaBoundConfig {
    /// α 10⁻³, α* 0.1, β 0.9 and 0.999, ε 10⁻⁸, γ 10⁻³, no decay.
    fn default() -> Self {
        Self {
            rate: 1e-3,
            final_ratio: 100.0,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            closing: 1e-3,
            amsbound: false,
            weight_decay: 0.0,
            decoupled: false,
        }
    }
}

impl AdaBoundConfig {
    /// 1 − α κ, and the κ of the gradient.
    const fn decays(&self) -> [f64; 2] {
        let Self { rate, weight_decay, .. } = *self;
        if self.decoupled { [1.0 - rate * weight_decay, 0.0] } else { [1.0, weight_decay] }
    }
}

/// AdaBound and AMSBound.
///
/// # Example
/// ```
/// use engine::{Gradients, Parameter, Tensor};
/// use alcyon_optim::{AdaBound, AdaBoundConfig, Optimizer};
/// let mut weight = Parameter::new(Tensor::from_slice(&[1.0], [1])?);
/// let mut grads = Gradients::default();
/// grads.set(&weight, Tensor::from_slice(&[0.5], [1])?);
/// // Bounds that are closed from the start: SGD.
/// let config = AdaBoundConfig { rate: 0.5, final_ratio: 1.0, beta1: 0.0, closing: 1e300,
///     ..AdaBoundConfig::default() };
/// AdaBound::new(config)?.step(&mut weight, &grads)?;
/// assert!((weight.value().item()? - 0.75).abs() < 1e-12);
/// # Ok::<(), engine::Error>(())
/// ```
pub type AdaBound = PerParameter<AdaBoundConfig>;

impl Rule for AdaBoundConfig {
    fn name(&self) -> &'static str {
        "adabound"
    }

    fn check(&self) -> Result<()> {
        below_one("adabound", "beta1", self.beta1)?;
        below_one("adabound", "beta2", self.beta2)?;
        positive("adabound", "epsilon", self.epsilon)?;
        positive("adabound", "final_ratio", self.final_ratio)?;
        positive("adabound", "closing", self.closing)?;
        not_negative("adabound", "weight_decay", self.weight_decay)
    }

    fn rate(&self) -> f64 {
        self.rate
    }

    fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    fn words(&self, _: &Parameter) -> String {
        "first and bounded root of second moment".into()
    }

    fn start(&self, parameter: &Parameter) -> Start {
        zeros(parameter, if self.amsbound { &["m", "v", "v_max"] } else { &["m", "v"] })
    }

    fn update(&self, t: u64, value: &mut Tensor, grad: &Tensor, kept: &mut [Tensor]) -> Result<()> {
        let size = self.rate * correction(self.beta2, t).sqrt() / correction(self.beta1, t);
        let (last, time) = (self.rate * self.final_ratio, self.closing * t as f64);
        let bounds = [last * (1.0 - 1.0 / (time + 1.0)), last * (1.0 + 1.0 / time)];
        for_float!(grad.dtype(), T => {
            let [beta1, fresh1] = [self.beta1, 1.0 - self.beta1].map(T::of);
            let [beta2, fresh2] = [self.beta2, 1.0 - self.beta2].map(T::of);
            let ([epsilon, size], [low, high]) = ([self.epsilon, size].map(T::of), bounds.map(T::of));
            let advance = |g: T, m: &mut T, v: &mut T| {
                *m = beta1 * *m + fresh1 * g;
                *v = beta2 * *v + fresh2 * g * g;
            };
            let [kept_part, kappa] = self.decays().map(T::of);
            let eta = |v: T| (size / (v.sqrt() + epsilon)).max(low).min(high);
            if self.amsbound {
                each_entry(value, grad, kept, |g: T, [theta, m, v, largest]| {
                    advance(g + kappa * *theta, m, v);
                    *largest = largest.max(*v);
                    *theta = kept_part * *theta - eta(*largest) * *m;
                })
            } else {
                each_entry(value, grad, kept, |g: T, [theta, m, v]| {
                    advance(g + kappa * *theta, m, v);
                    *theta = kept_part * *theta - eta(*v) * *m;
                })
            }
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, parameters: &[Moving<'_>]) -> Result<()> {
        let rule = if self.amsbound { &rule::AMSBOUND } else { &rule::ADABOUND };
        let (beta1, beta2) = (self.beta1, self.beta2);
        let last = self.rate * self.final_ratio;
        let [kept, kappa] = self.decays();
        let numbers = [beta1, beta2, self.epsilon, last, kept, kappa];
        let size = |t| self.rate * correction(beta2, t).sqrt() / correction(beta1, t);
        Ok(rule::step(gpu, parameters, rule, numbers, |t| (size(t), self.closing * t as f64))?)
    }
}
