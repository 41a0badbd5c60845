//! AdaGrad: each entry has a rate of its own, shrinking with all gradients it has seen.
//!
//! Duchi, Hazan & Singer 2011, "Adaptive Subgradient Methods for Online Learning and Stochastic
//! Optimization", the diagonal case of Figure 1.
//!
//! ```text
//! g ← g + κ θ
//! s ← s + g²
//! θ ← θ − α g / (√s + ε)
//! ```
//! Deviations: κ, which is PyTorch's; the paper adds δ outside the root too, and may project θ; s can start above zero, and stays at
//! the largest number when the sum would pass it.

use engine::{Parameter, Result, Tensor, for_float};
use kernels::Float as _;
#[cfg(feature = "cuda")]
use kernels::cuda::{Gpu, rule, step::Moving};

use crate::check::not_negative;
use crate::frame::first::First;
use crate::frame::per_parameter::{PerParameter, Rule, Start, each_entry};

/// Options of [`AdaGrad`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaGradConfig {
    /// α, the length of the first step in every entry.
    pub rate: f64,
    /// ε, in units of the gradient.
    pub epsilon: f64,
    /// What s starts from, in units of the gradient's square.
    pub start: f64,
    /// κ, coupled.
    pub weight_decay: f64,
}

impl Default for AdaGradConfig {
    /// α 0.01, ε 10⁻¹⁰, s from 0, no decay. The paper leaves them open.
    fn default() -> Self {
        Self { rate: 0.01, epsilon: 1e-10, start: 0.0, weight_decay: 0.0 }
    }
}

/// AdaGrad with a diagonal.
///
/// # Example
/// ```
/// use engine::{Gradients, Parameter, Tensor};
/// use alcyon_optim::{AdaGrad, AdaGradConfig, Optimizer};
/// let mut weight = Parameter::new(Tensor::from_slice(&[0.0], [1])?);
/// let config = AdaGradConfig { rate: 1.0, epsilon: 0.0, ..AdaGradConfig::default() };
/// let mut adagrad = AdaGrad::new(config)?;
/// for gradient in [3.0, 4.0] {
///     let mut grads = Gradients::default();
///     grads.set(&weight, Tensor::from_slice(&[gradient], [1])?);
///     adagrad.step(&mut weight, &grads)?;
/// }
/// assert_eq!(weight.value().item()?, -3.0 / 3.0 - 4.0 / 5.0); // √9, then √(9 + 16)
/// # Ok::<(), engine::Error>(())
/// ```
pub type AdaGrad = PerParameter<AdaGradConfig>;

impl Rule for AdaGradConfig {
    fn name(&self) -> &'static str {
        "adagrad"
    }

    fn check(&self) -> Result<()> {
        not_negative("adagrad", "epsilon", self.epsilon)?;
        not_negative("adagrad", "start", self.start)?;
        not_negative("adagrad", "weight_decay", self.weight_decay)
    }

    fn rate(&self) -> f64 {
        self.rate
    }

    fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    fn words(&self, _: &Parameter) -> String {
        "gradient over the root of its summed squares".into()
    }

    fn start(&self, parameter: &Parameter) -> Start {
        let value = parameter.value();
        vec![("s", First::full(*value.shape(), self.start, value.dtype()))]
    }

    fn update(&self, _: u64, value: &mut Tensor, grad: &Tensor, kept: &mut [Tensor]) -> Result<()> {
        for_float!(grad.dtype(), T => {
            let [rate, epsilon, kappa] =
                [self.rate, self.epsilon, self.weight_decay].map(T::of);
            each_entry(value, grad, kept, |g: T, [theta, s]| {
                let g = g + kappa * *theta;
                *s = (*s + g * g).min(T::MAX);
                // Where no gradient has been, there is nothing to divide.
                let length = s.sqrt() + epsilon;
                *theta -= if length > T::ZERO { rate * g / length } else { T::ZERO };
            })
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, parameters: &[Moving<'_>]) -> Result<()> {
        let numbers = [self.rate, self.epsilon, self.weight_decay];
        Ok(rule::step(gpu, parameters, &rule::ADAGRAD, numbers, |_| (0.0, 0.0))?)
    }
}
