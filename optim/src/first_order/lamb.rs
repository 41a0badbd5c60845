//! LAMB: Adam whose step is as long, in each layer, as the layer's own weights allow.
//!
//! You, Li, Reddi, Hseu, Kumar, Bhojanapalli, Song, Demmel, Keutzer & Hsieh 2020, "Large Batch
//! Optimization for Deep Learning: Training BERT in 76 minutes", Algorithm 2.
//!
//! ```text
//! m ← β₁ m + (1 − β₁) g,   v ← β₂ v + (1 − β₂) g²
//! r = m̂ / (√v̂ + ε) + κ θ
//! θ ← θ − α (φ(‖θ‖) / ‖r‖) r                norms over one parameter; φ(z) = min(z, bound)
//! ```
//! Where ‖θ‖ or ‖r‖ is 0, the ratio is 1 (the paper does not say). Every parameter is a layer of its
//! own, biases too, as in the algorithm box. The authors' program for BERT leaves out biases and the scales of norms
//! ([`LambConfig::vectors`] false): for vectors the ratio is 1 and κ is 0, which is Adam.

use engine::{Parameter, Result, Tensor, for_float};
use kernels::Float as _;

use crate::algebra::dense::correction;
use crate::algebra::on_tensors::Composed;
use crate::algebra::on_tensors::{length, moments, ratio, spread};
use crate::check::{below_one, not_negative, positive};
use crate::frame::per_parameter::{PerParameter, Rule, Start, each_entry, norm, zeros};

/// Options of [`Lamb`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LambConfig {
    /// α: the length of a step, relative to the parameter's.
    pub rate: f64,
    /// β₁ in [0, 1)
    pub beta1: f64,
    /// β₂ in [0, 1)
    pub beta2: f64,
    /// ε, in units of the gradient.
    pub epsilon: f64,
    /// κ, part of r.
    pub weight_decay: f64,
    /// The largest φ; the paper's γᵤ. Infinite for none.
    pub bound: f64,
    /// Whether parameters of fewer than two axes are treated as the others.
    pub vectors: bool,
}

impl Default for LambConfig {
    /// The paper's for BERT: β 0.9 and 0.999, ε 10⁻⁶, κ 0.01; α 10⁻³, which it scales with the batch.
    fn default() -> Self {
        Self {
            rate: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-6,
            weight_decay: 0.01,
            bound: f64::INFINITY,
            vectors: true,
        }
    }
}

/// Layer-wise adaptive moments.
///
/// # Example
/// ```
/// use engine::{Gradients, Parameter, Tensor};
/// use alcyon_optim::{Lamb, LambConfig, Optimizer};
/// let mut weight = Parameter::new(Tensor::from_slice(&[3.0, 4.0], [2])?);
/// let mut grads = Gradients::default();
/// grads.set(&weight, Tensor::from_slice(&[100.0, 0.0], [2])?);
/// let config = LambConfig { rate: 0.1, weight_decay: 0.0, ..LambConfig::default() };
/// Lamb::new(config)?.step(&mut weight, &grads)?;
/// let moved = weight.value().to_vec::<f64>()?;
/// assert!((moved[0] - 2.5).abs() < 1e-12); // a tenth of ‖θ‖ = 5
/// # Ok::<(), engine::Error>(())
/// ```
pub type Lamb = PerParameter<LambConfig>;

impl Rule for LambConfig {
    fn has_composed(&self) -> bool {
        true
    }

    fn name(&self) -> &'static str {
        "lamb"
    }

    fn check(&self) -> Result<()> {
        below_one("lamb", "beta1", self.beta1)?;
        below_one("lamb", "beta2", self.beta2)?;
        positive("lamb", "epsilon", self.epsilon)?;
        not_negative("lamb", "weight_decay", self.weight_decay)?;
        crate::check::demand("lamb", "bound", self.bound, "positive", self.bound > 0.0)
    }

    fn rate(&self) -> f64 {
        self.rate
    }

    fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    fn words(&self, parameter: &Parameter) -> String {
        let long = if self.adapts(parameter.value()) { ", as long as the parameter" } else { "" };
        format!("first and root of second moment{long}")
    }

    fn start(&self, parameter: &Parameter) -> Start {
        zeros(parameter, &["m", "v"])
    }

    fn update(&self, t: u64, value: &mut Tensor, grad: &Tensor, kept: &mut [Tensor]) -> Result<()> {
        let size = 1.0 / correction(self.beta1, t);
        let root = correction(self.beta2, t).sqrt();
        let length = norm(value)?.min(self.bound);
        let mut direction = grad.clone();
        for_float!(grad.dtype(), T => {
            let [beta1, fresh1] = [self.beta1, 1.0 - self.beta1].map(T::of);
            let [beta2, fresh2] = [self.beta2, 1.0 - self.beta2].map(T::of);
            let [epsilon, root, size] = [self.epsilon, root, size].map(T::of);
            let kappa = T::of(self.decay_of(value));
            each_entry(&mut direction, grad, kept, |g: T, [r, m, v]| {
                *m = beta1 * *m + fresh1 * g;
                *v = beta2 * *v + fresh2 * g * g;
                *r = size * *m / (v.sqrt() / root + epsilon);
            })?;
            each_entry(&mut direction, value, &mut [], |theta: T, [r]| *r += kappa * theta)?;
            let own = norm(&direction)?;
            let adapts = self.adapts(value) && own > 0.0 && length > 0.0;
            let ratio = if adapts { length / own } else { 1.0 };
            // Next to a parameter, a direction can be so short that the ratio is no number of this type.
            let step = T::of(self.rate * ratio).min(T::MAX);
            each_entry(value, &direction, &mut [], |r: T, [theta]| *theta -= step * r)
        })
    }

    fn compose(&self, t: u64, value: &Tensor, grad: &Tensor, kept: &[Tensor]) -> Result<Composed> {
        let [m, v] = kept else { return Ok((value.clone(), kept.to_vec())) };
        let [m, v] = moments([self.beta1, self.beta2], grad, [m, v])?;
        let spread = spread(&v, correction(self.beta2, t).sqrt(), self.epsilon)?;
        let adam = m.scale(1.0 / correction(self.beta1, t))?.div(&spread)?;
        let direction = adam.add(&value.scale(self.decay_of(value))?)?;
        if !self.adapts(value) {
            return Ok((value.sub(&direction.scale(self.rate)?)?, vec![m, v]));
        }
        let trust = ratio(&length(value)?.clamp(0.0, self.bound)?, &length(&direction)?)?;
        let value = value.sub(&direction.mul(&trust.scale(self.rate)?)?)?;
        Ok((value, vec![m, v]))
    }
}

impl LambConfig {
    fn adapts(&self, value: &Tensor) -> bool {
        self.vectors || value.rank() > 1
    }

    /// κ of a parameter.
    fn decay_of(&self, value: &Tensor) -> f64 {
        if self.adapts(value) { self.weight_decay } else { 0.0 }
    }
}
