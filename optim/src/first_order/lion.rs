//! Lion: the sign of a first moment, found by program search.
//!
//! Chen, Liang, Huang, Real, Wang, Liu, Pham, Dong, Luong, Hsieh, Lu & Le 2023, "Symbolic Discovery of
//! Optimization Algorithms", Algorithm 2.
//!
//! ```text
//! θ ← θ − α (sign(β₁ m + (1 − β₁) g) + κ θ)
//! m ← β₂ m + (1 − β₂) g
//! ```
//! No deviation.

use engine::{Parameter, Result, Tensor, for_float};
use kernels::Float as _;
#[cfg(feature = "cuda")]
use kernels::cuda::{Gpu, rule, step::Moving};

use crate::check::{below_one, not_negative};
use crate::frame::per_parameter::{PerParameter, Rule, Start, each_entry, zeros};

/// Options of [`Lion`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LionConfig {
    /// α: the length of a step in every entry.
    pub rate: f64,
    /// β₁ in [0, 1): of the direction.
    pub beta1: f64,
    /// β₂ in [0, 1): of what is remembered.
    pub beta2: f64,
    /// κ, decoupled.
    pub weight_decay: f64,
}

impl Default for LionConfig {
    /// α 10⁻⁴, β 0.9 and 0.99, no decay.
    fn default() -> Self {
        Self { rate: 1e-4, beta1: 0.9, beta2: 0.99, weight_decay: 0.0 }
    }
}

/// Evolved sign momentum.
///
/// # Example
/// ```
/// use engine::{Gradients, Parameter, Tensor};
/// use alcyon_optim::{Lion, LionConfig, Optimizer};
/// let mut weight = Parameter::new(Tensor::from_slice(&[1.0, 1.0, 1.0], [3])?);
/// let mut grads = Gradients::default();
/// grads.set(&weight, Tensor::from_slice(&[5.0, -0.1, 0.0], [3])?);
/// Lion::new(LionConfig { rate: 0.5, ..LionConfig::default() })?.step(&mut weight, &grads)?;
/// assert_eq!(weight.value().to_vec::<f64>()?, [0.5, 1.5, 1.0]);
/// # Ok::<(), engine::Error>(())
/// ```
pub type Lion = PerParameter<LionConfig>;

impl Rule for LionConfig {
    fn name(&self) -> &'static str {
        "lion"
    }

    fn check(&self) -> Result<()> {
        below_one("lion", "beta1", self.beta1)?;
        below_one("lion", "beta2", self.beta2)?;
        not_negative("lion", "weight_decay", self.weight_decay)
    }

    fn rate(&self) -> f64 {
        self.rate
    }

    fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    fn words(&self, _: &Parameter) -> String {
        "sign of the first moment".into()
    }

    fn start(&self, parameter: &Parameter) -> Start {
        zeros(parameter, &["m"])
    }

    fn update(&self, _: u64, value: &mut Tensor, grad: &Tensor, kept: &mut [Tensor]) -> Result<()> {
        for_float!(grad.dtype(), T => {
            let [beta1, fresh1] = [self.beta1, 1.0 - self.beta1].map(T::of);
            let [beta2, fresh2] = [self.beta2, 1.0 - self.beta2].map(T::of);
            let [rate, kappa] = [self.rate, self.weight_decay].map(T::of);
            each_entry(value, grad, kept, |g: T, [theta, m]| {
                let sign = kernels::Float::signum(beta1 * *m + fresh1 * g);
                *theta -= rate * (sign + kappa * *theta);
                *m = beta2 * *m + fresh2 * g;
            })
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, parameters: &[Moving<'_>]) -> Result<()> {
        let (beta1, beta2) = (self.beta1, self.beta2);
        let numbers = [beta1, 1.0 - beta1, beta2, 1.0 - beta2, self.rate, self.weight_decay];
        Ok(rule::step(gpu, parameters, &rule::LION, numbers, |_| (0.0, 0.0))?)
    }
}
