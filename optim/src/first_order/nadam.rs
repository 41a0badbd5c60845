//! NAdam: Adam that looks ahead along its momentum.
//!
//! Dozat 2016, "Incorporating Nesterov Momentum into Adam", Algorithm 2, with the schedule of μ from
//! its section 3 (after Sutskever et al. 2013).
//!
//! ```text
//! μₜ = β₁ (1 − ½ 0.96^(ψ t))
//! m ← β₁ m + (1 − β₁) g,    v ← β₂ v + (1 − β₂) g²
//! m̂ = μₜ₊₁ m / (1 − μ₁ ⋯ μₜ₊₁) + (1 − μₜ) g / (1 − μ₁ ⋯ μₜ)
//! θ ← θ − α m̂ / (√v̂ + ε)
//! ```
//! Deviations, both PyTorch's: m decays by β₁, not by μₜ; weight decay κ, decoupled by default, or g ← g + κ θ
//! ([`NAdamConfig::decoupled`]).

use engine::{DType, Parameter, Result, Tensor, for_float};
use kernels::Float as _;

use crate::algebra::dense::correction;
use crate::algebra::on_tensors::Composed;
use crate::algebra::on_tensors::{moments, spread};
use crate::check::{below_one, not_negative, positive};
use crate::frame::first::First;
use crate::frame::per_parameter::{PerParameter, Rule, Start, each_entry, zeros};

/// Options of [`NAdam`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NAdamConfig {
    /// α
    pub rate: f64,
    /// β₁ in [0, 1)
    pub beta1: f64,
    /// β₂ in [0, 1)
    pub beta2: f64,
    /// ε, in units of the gradient.
    pub epsilon: f64,
    /// ψ ≥ 0: how fast μ goes from β₁/2 to β₁, per step.
    pub momentum_decay: f64,
    /// κ
    pub weight_decay: f64,
    /// Whether κ acts on the parameter, θ ← (1 − α κ) θ. PyTorch's default is false: κ θ is added to the gradient.
    pub decoupled: bool,
}

impl Default for NAdamConfig {
    /// α 0.002, β 0.9 and 0.999, ε 10⁻⁸, ψ 0.004.
    fn default() -> Self {
        Self {
            rate: 2e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            momentum_decay: 4e-3,
            weight_decay: 0.0,
            decoupled: true,
        }
    }
}

impl NAdamConfig {
    /// 1 − α κ, and the κ of the gradient.
    const fn decays(&self) -> [f64; 2] {
        let Self { rate, weight_decay, .. } = *self;
        if self.decoupled { [1.0 - rate * weight_decay, 0.0] } else { [1.0, weight_decay] }
    }

    /// μ at step t.
    fn mu(&self, t: u64) -> f64 {
        self.beta1 * (1.0 - 0.5 * 0.96_f64.powf(self.momentum_decay * t as f64))
    }
}

/// Adam with Nesterov's momentum.
///
/// # Example
/// ```
/// use engine::{Gradients, Parameter, Tensor};
/// use alcyon_optim::{NAdam, NAdamConfig, Optimizer};
/// let mut weight = Parameter::new(Tensor::from_slice(&[1.0], [1])?);
/// let mut grads = Gradients::default();
/// grads.set(&weight, Tensor::from_slice(&[3.0], [1])?);
/// let config = NAdamConfig { rate: 0.125, beta1: 0.0, epsilon: 1e-12, ..NAdamConfig::default() };
/// NAdam::new(config)?.step(&mut weight, &grads)?;
/// assert!((weight.value().item()? - 0.875).abs() < 1e-12); // without momentum, Adam
/// # Ok::<(), engine::Error>(())
/// ```
pub type NAdam = PerParameter<NAdamConfig>;

impl Rule for NAdamConfig {
    fn has_composed(&self) -> bool {
        true
    }

    fn name(&self) -> &'static str {
        "nadam"
    }

    fn check(&self) -> Result<()> {
        below_one("nadam", "beta1", self.beta1)?;
        below_one("nadam", "beta2", self.beta2)?;
        positive("nadam", "epsilon", self.epsilon)?;
        not_negative("nadam", "momentum_decay", self.momentum_decay)?;
        not_negative("nadam", "weight_decay", self.weight_decay)
    }

    fn rate(&self) -> f64 {
        self.rate
    }

    fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    fn words(&self, _: &Parameter) -> String {
        "first moment ahead and root of second moment".into()
    }

    /// The two moments, and the product of all μ so far.
    fn start(&self, parameter: &Parameter) -> Start {
        let mut start = zeros(parameter, &["m", "v"]);
        start.push(("product", First::full((), 1.0, DType::F64)));
        start
    }

    fn update(&self, t: u64, value: &mut Tensor, grad: &Tensor, kept: &mut [Tensor]) -> Result<()> {
        let [_, _, product] = kept else { return Ok(()) };
        let (mu, next) = (self.mu(t), self.mu(t + 1));
        let so_far = product.item()? * mu;
        *product = Tensor::scalar(so_far, DType::F64);
        let ahead = self.rate * next / (1.0 - so_far * next);
        let now = self.rate * (1.0 - mu) / (1.0 - so_far);
        let root = correction(self.beta2, t).sqrt();
        for_float!(grad.dtype(), T => {
            let [beta1, fresh1] = [self.beta1, 1.0 - self.beta1].map(T::of);
            let [beta2, fresh2] = [self.beta2, 1.0 - self.beta2].map(T::of);
            let [epsilon, root, ahead, now] = [self.epsilon, root, ahead, now].map(T::of);
            let [kept_part, kappa] = self.decays().map(T::of);
            each_entry(value, grad, &mut kept[..2], |g: T, [theta, m, v]| {
                let g = g + kappa * *theta;
                *m = beta1 * *m + fresh1 * g;
                *v = beta2 * *v + fresh2 * g * g;
                let step = (ahead * *m + now * g) / (v.sqrt() / root + epsilon);
                *theta = kept_part * *theta - step;
            })
        })
    }

    /// The product stays where the moments are.
    fn compose(&self, t: u64, value: &Tensor, grad: &Tensor, kept: &[Tensor]) -> Result<Composed> {
        let [m, v, product] = kept else { return Ok((value.clone(), kept.to_vec())) };
        let (product, [kept_part, kappa]) = (product.scale(self.mu(t))?, self.decays());
        let grad = &if kappa > 0.0 { grad.add(&value.scale(kappa)?)? } else { grad.clone() };
        let over = |size: f64, mu: f64| {
            product.scale(-mu)?.shift(1.0)?.recip()?.scale(self.rate * size)?.to_dtype(grad.dtype())
        };
        let (ahead, now) = (over(self.mu(t + 1), self.mu(t + 1))?, over(1.0 - self.mu(t), 1.0)?);
        let [m, v] = moments([self.beta1, self.beta2], grad, [m, v])?;
        let spread = spread(&v, correction(self.beta2, t).sqrt(), self.epsilon)?;
        let step = m.mul(&ahead)?.add(&grad.mul(&now)?)?.div(&spread)?;
        let value = value.scale(kept_part)?.sub(&step)?;
        Ok((value, vec![m, v, product]))
    }
}
