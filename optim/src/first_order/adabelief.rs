//! AdaBelief: steps are long where gradients are as expected, short where they surprise.
//!
//! Zhuang, Tang, Ding, Tatikonda, Dvornek, Papademetris & Duncan 2020, "AdaBelief Optimizer: Adapting
//! Stepsizes by the Belief in Observed Gradients", Algorithm 2.
//!
//! ```text
//! m ← β₁ m + (1 − β₁) g
//! s ← β₂ s + (1 − β₂) (g − m)² + ε
//! θ ← θ − α m̂ / (√ŝ + ε) − α κ θ                κ is decoupled
//! ```
//! No deviation: ε stands in both places, as in the algorithm box. The authors' program has [`RAdam`]'s rectification
//! on by default; the paper's box has none, so it is an option here ([`AdaBeliefConfig::rectify`]). Its √ŝ is
//! corrected before ε is added; theirs is not, which with ε 10⁻¹⁶ is nothing.
//!
//! [`RAdam`]: crate::RAdam

use engine::{Parameter, Result, Tensor, for_float};
use kernels::Float as _;
#[cfg(feature = "cuda")]
use kernels::cuda::{Gpu, rule, step::Moving};

use super::radam::{THRESHOLD, rectification};
use crate::algebra::dense::correction;
use crate::check::{below_one, not_negative, positive};
use crate::frame::per_parameter::{PerParameter, Rule, Start, each_entry, zeros};

/// Options of [`AdaBelief`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaBeliefConfig {
    /// α
    pub rate: f64,
    /// β₁ in [0, 1)
    pub beta1: f64,
    /// β₂ in [0, 1)
    pub beta2: f64,
    /// ε, added to s at every step (in units of the gradient's square) and to its root.
    pub epsilon: f64,
    /// κ, decoupled.
    pub weight_decay: f64,
    /// Whether steps are RAdam's: α m̂ until ŝ can be trusted, and times its r from then on.
    pub rectify: bool,
}

impl Default for AdaBeliefConfig {
    /// α 10⁻³, β 0.9 and 0.999, and the ε of the authors' program, 10⁻¹⁶.
    fn default() -> Self {
        Self {
            rate: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-16,
            weight_decay: 0.0,
            rectify: false,
        }
    }
}

impl AdaBeliefConfig {
    /// What m is multiplied by at step t, and √(1 − β₂ᵗ), or 0 where m is not divided.
    fn size_and_root(&self, t: u64) -> (f64, f64) {
        let (size, root) =
            (self.rate / correction(self.beta1, t), correction(self.beta2, t).sqrt());
        match rectification(self.beta2, THRESHOLD, t) {
            _ if !self.rectify => (size, root),
            Some(r) => (size * r, root),
            None => (size, 0.0),
        }
    }
}

/// AdaBelief.
///
/// # Example
/// ```
/// use engine::{Gradients, Parameter, Tensor};
/// use alcyon_optim::{AdaBelief, AdaBeliefConfig, Optimizer};
/// let mut weight = Parameter::new(Tensor::from_slice(&[1.0], [1])?);
/// let mut grads = Gradients::default();
/// grads.set(&weight, Tensor::from_slice(&[5.0], [1])?);
/// let config = AdaBeliefConfig { rate: 0.09, beta1: 0.9, ..AdaBeliefConfig::default() };
/// AdaBelief::new(config)?.step(&mut weight, &grads)?;
/// assert!((weight.value().item()? - 0.9).abs() < 1e-12); // m̂ = 5, √ŝ = 5 − 0.5
/// # Ok::<(), engine::Error>(())
/// ```
pub type AdaBelief = PerParameter<AdaBeliefConfig>;

impl Rule for AdaBeliefConfig {
    fn name(&self) -> &'static str {
        "adabelief"
    }

    fn check(&self) -> Result<()> {
        below_one("adabelief", "beta1", self.beta1)?;
        below_one("adabelief", "beta2", self.beta2)?;
        positive("adabelief", "epsilon", self.epsilon)?;
        not_negative("adabelief", "weight_decay", self.weight_decay)
    }

    fn rate(&self) -> f64 {
        self.rate
    }

    fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    fn words(&self, _: &Parameter) -> String {
        "first moment over the gradient's deviation from it".into()
    }

    fn start(&self, parameter: &Parameter) -> Start {
        zeros(parameter, &["m", "s"])
    }

    fn update(&self, t: u64, value: &mut Tensor, grad: &Tensor, kept: &mut [Tensor]) -> Result<()> {
        let (size, root) = self.size_and_root(t);
        for_float!(grad.dtype(), T => {
            let [beta1, fresh1] = [self.beta1, 1.0 - self.beta1].map(T::of);
            let [beta2, fresh2] = [self.beta2, 1.0 - self.beta2].map(T::of);
            let [epsilon, root, size] = [self.epsilon, root, size].map(T::of);
            let (kept_part, divides) = (T::of(1.0 - self.rate * self.weight_decay), root > T::ZERO);
            each_entry(value, grad, kept, |g: T, [theta, m, s]| {
                *m = beta1 * *m + fresh1 * g;
                let surprise = g - *m;
                *s = beta2 * *s + fresh2 * surprise * surprise + epsilon;
                let under = if divides { s.sqrt() / root + epsilon } else { T::ONE };
                *theta = kept_part * *theta - size * *m / under;
            })
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, parameters: &[Moving<'_>]) -> Result<()> {
        let Self { rate, beta1, beta2, epsilon, weight_decay, .. } = *self;
        let kept = 1.0 - rate * weight_decay;
        let numbers = [beta1, 1.0 - beta1, beta2, 1.0 - beta2, epsilon, kept];
        Ok(rule::step(gpu, parameters, &rule::ADABELIEF, numbers, |t| self.size_and_root(t))?)
    }
}
