//! RMSProp: the gradient over the root of a moving average of its squares.
//!
//! Tieleman & Hinton 2012, "Lecture 6.5: rmsprop", Coursera; with momentum as in Graves 2013,
//! "Generating Sequences With Recurrent Neural Networks", eq. 38 to 41; centred, as there, or not.
//!
//! ```text
//! g ← g + κ θ
//! v ← ρ v + (1 − ρ) g²                v starts at 0 and is not corrected: first steps are longer
//! a ← ρ a + (1 − ρ) g                 centred: v − a², the variance, stands for v below
//! b ← μ b + g / (√v + ε)
//! θ ← θ − α b
//! ```
//! Deviation: ε stands outside the root, as in PyTorch (the paper's stands inside).

use engine::{Parameter, Result, Tensor, for_float};
use kernels::Float as _;
#[cfg(feature = "cuda")]
use kernels::cuda::{Gpu, rule, step::Moving};

use crate::check::{below_one, not_negative, positive};
use crate::frame::per_parameter::{PerParameter, Rule, Start, each_entry, zeros};

/// Options of [`RmsProp`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RmsPropConfig {
    /// α
    pub rate: f64,
    /// ρ in [0, 1), the weight of the old average.
    pub decay: f64,
    /// ε, in units of the gradient.
    pub epsilon: f64,
    /// μ in [0, 1). With 0 no buffer is kept.
    pub momentum: f64,
    /// κ, coupled.
    pub weight_decay: f64,
    /// Whether the square of the mean gradient is taken from v: then that mean is kept, too.
    pub centered: bool,
}

impl Default for RmsPropConfig {
    /// The lecture's: α 10⁻³, ρ 0.9; ε 10⁻⁸, nothing else.
    fn default() -> Self {
        Self {
            rate: 1e-3,
            decay: 0.9,
            epsilon: 1e-8,
            momentum: 0.0,
            weight_decay: 0.0,
            centered: false,
        }
    }
}

/// RMSProp, with momentum if wanted.
///
/// # Example
/// ```
/// use engine::{Gradients, Parameter, Tensor};
/// use alcyon_optim::{Optimizer, RmsProp, RmsPropConfig};
/// let mut weight = Parameter::new(Tensor::from_slice(&[1.0], [1])?);
/// let mut grads = Gradients::default();
/// grads.set(&weight, Tensor::from_slice(&[8.0], [1])?);
/// let config = RmsPropConfig { rate: 0.25, decay: 0.75, ..RmsPropConfig::default() };
/// RmsProp::new(config)?.step(&mut weight, &grads)?;
/// assert!((weight.value().item()? - 0.5).abs() < 1e-8); // 1 − 0.25 · 8 / √(64 / 4)
/// # Ok::<(), engine::Error>(())
/// ```
pub type RmsProp = PerParameter<RmsPropConfig>;

impl Rule for RmsPropConfig {
    fn name(&self) -> &'static str {
        "rmsprop"
    }

    fn check(&self) -> Result<()> {
        below_one("rmsprop", "decay", self.decay)?;
        below_one("rmsprop", "momentum", self.momentum)?;
        positive("rmsprop", "epsilon", self.epsilon)?;
        not_negative("rmsprop", "weight_decay", self.weight_decay)
    }

    fn rate(&self) -> f64 {
        self.rate
    }

    fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    fn words(&self, _: &Parameter) -> String {
        let of = if self.centered { "variance" } else { "second moment" };
        format!("gradient over the root of its {of}")
    }

    fn start(&self, parameter: &Parameter) -> Start {
        let names: &[&str] = match (self.centered, self.momentum > 0.0) {
            (false, false) => &["v"],
            (false, true) => &["v", "b"],
            (true, false) => &["v", "a"],
            (true, true) => &["v", "a", "b"],
        };
        zeros(parameter, names)
    }

    fn update(&self, _: u64, value: &mut Tensor, grad: &Tensor, kept: &mut [Tensor]) -> Result<()> {
        for_float!(grad.dtype(), T => {
            let [rate, rho, fresh] = [self.rate, self.decay, 1.0 - self.decay].map(T::of);
            let [epsilon, mu, kappa] = [self.epsilon, self.momentum, self.weight_decay].map(T::of);
            // g over √v, or over the root of the variance, which rounding can make negative.
            let scaled = |g: T, v: &mut T| {
                *v = rho * *v + fresh * g * g;
                g / (v.sqrt() + epsilon)
            };
            let centred = |g: T, v: &mut T, a: &mut T| {
                *v = rho * *v + fresh * g * g;
                *a = rho * *a + fresh * g;
                g / ((*v - *a * *a).max(T::ZERO).sqrt() + epsilon)
            };
            match (self.centered, self.momentum > 0.0) {
                (false, false) => each_entry(value, grad, kept, |g: T, [theta, v]| {
                    *theta -= rate * scaled(g + kappa * *theta, v);
                }),
                (false, true) => each_entry(value, grad, kept, |g: T, [theta, v, b]| {
                    *b = mu * *b + scaled(g + kappa * *theta, v);
                    *theta -= rate * *b;
                }),
                (true, false) => each_entry(value, grad, kept, |g: T, [theta, v, a]| {
                    *theta -= rate * centred(g + kappa * *theta, v, a);
                }),
                (true, true) => each_entry(value, grad, kept, |g: T, [theta, v, a, b]| {
                    *b = mu * *b + centred(g + kappa * *theta, v, a);
                    *theta -= rate * *b;
                }),
            }
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, parameters: &[Moving<'_>]) -> Result<()> {
        let rule = match (self.centered, self.momentum > 0.0) {
            (false, false) => &rule::RMSPROP,
            (false, true) => &rule::RMSPROP_WITH_MOMENTUM,
            (true, false) => &rule::RMSPROP_CENTERED,
            (true, true) => &rule::RMSPROP_CENTERED_WITH_MOMENTUM,
        };
        let Self { rate, decay, epsilon, momentum, weight_decay, .. } = *self;
        let numbers = [rate, decay, 1.0 - decay, epsilon, weight_decay, momentum];
        Ok(rule::step(gpu, parameters, rule, numbers, |_| (0.0, 0.0))?)
    }
}
