//! LARS: momentum SGD whose rate, in each layer, is set by the ratio of weights to gradients.
//!
//! You, Gitman & Ginsburg 2017, "Large Batch Training of Convolutional Networks", Algorithm 1.
//!
//! ```text
//! λ = η ‖θ‖ / (‖g‖ + κ ‖θ‖)               norms over one parameter
//! b ← μ b + α λ (g + κ θ)
//! θ ← θ − b
//! ```
//! Where ‖θ‖ or the denominator is 0, λ is 1 (the paper does not say). Programs for large batches leave out biases and
//! the scales of norms ([`LarsConfig::vectors`] false): for vectors λ is 1 and κ is 0, which is SGD.

use engine::{Parameter, Result, Tensor, for_float};
use kernels::Float as _;

use crate::algebra::on_tensors::Composed;
use crate::algebra::on_tensors::{length, ratio};
use crate::check::{below_one, not_negative, positive};
use crate::frame::per_parameter::{PerParameter, Rule, Start, each_entry, norm, zeros};

/// Options of [`Lars`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LarsConfig {
    /// α, the global rate.
    pub rate: f64,
    /// η: how far a layer trusts itself to move, relative to its length.
    pub trust: f64,
    /// μ in [0, 1)
    pub momentum: f64,
    /// κ, coupled.
    pub weight_decay: f64,
    /// Whether parameters of fewer than two axes are treated as the others.
    pub vectors: bool,
}

impl Default for LarsConfig {
    /// The paper's η 10⁻³, μ 0.9, κ 5·10⁻⁴; α 1, which it scales with the batch.
    fn default() -> Self {
        Self { rate: 1.0, trust: 1e-3, momentum: 0.9, weight_decay: 5e-4, vectors: true }
    }
}

/// Layer-wise adaptive rate scaling.
///
/// # Example
/// ```
/// use engine::{Gradients, Parameter, Tensor};
/// use alcyon_optim::{Lars, LarsConfig, Optimizer};
/// let mut weight = Parameter::new(Tensor::from_slice(&[3.0, 4.0], [2])?);
/// let mut grads = Gradients::default();
/// grads.set(&weight, Tensor::from_slice(&[100.0, 0.0], [2])?);
/// let config = LarsConfig { trust: 0.1, weight_decay: 0.0, ..LarsConfig::default() };
/// Lars::new(config)?.step(&mut weight, &grads)?;
/// let moved = weight.value().to_vec::<f64>()?;
/// assert!((moved[0] - 2.5).abs() < 1e-12); // a tenth of ‖θ‖ = 5, however large the gradient
/// # Ok::<(), engine::Error>(())
/// ```
pub type Lars = PerParameter<LarsConfig>;

impl Rule for LarsConfig {
    fn has_composed(&self) -> bool {
        true
    }

    fn name(&self) -> &'static str {
        "lars"
    }

    fn check(&self) -> Result<()> {
        positive("lars", "trust", self.trust)?;
        below_one("lars", "momentum", self.momentum)?;
        not_negative("lars", "weight_decay", self.weight_decay)
    }

    fn rate(&self) -> f64 {
        self.rate
    }

    fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    fn words(&self, parameter: &Parameter) -> String {
        let long = if self.adapts(parameter.value()) {
            ", relative to the parameter's length"
        } else {
            ""
        };
        format!("gradient with momentum{long}")
    }

    fn start(&self, parameter: &Parameter) -> Start {
        zeros(parameter, &["b"])
    }

    fn update(&self, _: u64, value: &mut Tensor, grad: &Tensor, kept: &mut [Tensor]) -> Result<()> {
        let (own, decay) = (norm(value)?, self.decay_of(value));
        let against = norm(grad)? + decay * own;
        let adapts = self.adapts(value) && own > 0.0 && against > 0.0;
        let local = if adapts { self.trust * own / against } else { 1.0 };
        for_float!(grad.dtype(), T => {
            // Next to a parameter, a gradient can be so short that the ratio is no number of this type.
            let (size, mu) = (T::of(self.rate * local).min(T::MAX), T::of(self.momentum));
            let kappa = T::of(decay);
            each_entry(value, grad, kept, |g: T, [theta, b]| {
                *b = mu * *b + size * (g + kappa * *theta);
                *theta -= *b;
            })
        })
    }

    fn compose(&self, _: u64, value: &Tensor, grad: &Tensor, kept: &[Tensor]) -> Result<Composed> {
        let [b] = kept else { return Ok((value.clone(), kept.to_vec())) };
        let decay = self.decay_of(value);
        let slope = grad.add(&value.scale(decay)?)?;
        let along = if self.adapts(value) {
            let own = length(value)?;
            let against = length(grad)?.add(&own.scale(decay)?)?;
            slope.mul(&ratio(&own.scale(self.trust)?, &against)?.scale(self.rate)?)?
        } else {
            slope.scale(self.rate)?
        };
        let b = b.scale(self.momentum)?.add(&along)?;
        Ok((value.sub(&b)?, vec![b]))
    }
}

impl LarsConfig {
    fn adapts(&self, value: &Tensor) -> bool {
        self.vectors || value.rank() > 1
    }

    /// κ of a parameter.
    fn decay_of(&self, value: &Tensor) -> f64 {
        if self.adapts(value) { self.weight_decay } else { 0.0 }
    }
}
