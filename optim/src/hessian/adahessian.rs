//! AdaHessian: Adam with the Hessian's diagonal in place of the gradient.
//!
//! Yao, Gholami, Shen, Mustafa, Keutzer & Mahoney 2021, "AdaHessian: An Adaptive Second Order Optimizer
//! for Machine Learning", Algorithm 1.
//!
//! ```text
//! D ← z ∘ H z,   |D| averaged over the positions of a convolution's kernel      z = ±1
//! m ← β₁ m + (1 − β₁) g,   v ← β₂ v + (1 − β₂) D²
//! θ ← θ − α (m̂ / (v̂^(k/2) + ε) + κ θ)
//! ```
//! As in the authors' program, sizes are taken before the average (the paper averages D itself), and the
//! last D stays in use where a new one is not due.

use engine::{Parameter, Result, Tensor, for_float, room};
use kernels::Float as _;
#[cfg(feature = "cuda")]
use kernels::cuda::{Gpu, rule, step::Moving};

use crate::algebra::dense::correction;
use crate::check::{below_one, not_negative, positive};
use crate::curvature::estimate::hessian_diagonal::{HessianDiagonal, Probe};
use crate::frame::per_parameter::{Rule, Start, each_entry, zeros};
use crate::frame::second_diagonal::{DiagonalRule, SecondDiagonal};

/// Options of [`AdaHessian`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdaHessianConfig {
    /// α
    pub rate: f64,
    /// β₁ in [0, 1)
    pub beta1: f64,
    /// β₂ in [0, 1)
    pub beta2: f64,
    /// ε, in units of curvature to the power k.
    pub epsilon: f64,
    /// k in (0, 1]: 1 for Newton's power.
    pub power: f64,
    /// κ, decoupled.
    pub weight_decay: f64,
    /// Steps between two estimates.
    pub estimate_every: u64,
    /// The seed of z.
    pub seed: u64,
}

impl Default for AdaHessianConfig {
    /// The authors': α 0.15, β 0.9 and 0.999, ε 10⁻⁴, k 1, an estimate at every step.
    fn default() -> Self {
        Self {
            rate: 0.15,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-4,
            power: 1.0,
            weight_decay: 0.0,
            estimate_every: 1,
            seed: 0,
        }
    }
}

/// AdaHessian. Gradients have to come from [`backward`](crate::backward()), which adds the estimate.
///
/// # Errors
/// A first step without an estimate is refused with [`Error::Argument`](engine::Error::Argument).
///
/// # Example
/// ```
/// use engine::{Gradients, Parameter, Tensor};
/// use alcyon_optim::{AdaHessian, AdaHessianConfig, Optimizer};
/// let mut weight = Parameter::new(Tensor::from_slice(&[1.0], [1])?);
/// let config = AdaHessianConfig { rate: 1.0, epsilon: 0.0, ..AdaHessianConfig::default() };
/// let mut optimizer = AdaHessian::new(config)?;
/// let mut grads = Gradients::default();
/// grads.set(&weight, Tensor::from_slice(&[8.0], [1])?);
/// if let Some(estimator) = optimizer.hessian_diagonal() {
///     estimator.add(weight.id(), vec![16.0], 1); // as `backward` does
///     estimator.finish(1);
/// }
/// optimizer.step(&mut weight, &grads)?;
/// assert!((weight.value().item()? - 0.5).abs() < 1e-12); // 1 − 8/16
/// # Ok::<(), engine::Error>(())
/// ```
pub type AdaHessian = SecondDiagonal<AdaHessianConfig>;

impl Rule for AdaHessianConfig {
    fn name(&self) -> &'static str {
        "adahessian"
    }

    fn check(&self) -> Result<()> {
        below_one("adahessian", "beta1", self.beta1)?;
        below_one("adahessian", "beta2", self.beta2)?;
        not_negative("adahessian", "epsilon", self.epsilon)?;
        positive("adahessian", "power", self.power)?;
        not_negative("adahessian", "weight_decay", self.weight_decay)
    }

    fn rate(&self) -> f64 {
        self.rate
    }

    fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    fn words(&self, _: &Parameter) -> String {
        "first moment over the Hessian's diagonal".into()
    }

    fn start(&self, parameter: &Parameter) -> Start {
        zeros(parameter, &["m", "v", "d"])
    }

    fn update(&self, t: u64, value: &mut Tensor, grad: &Tensor, kept: &mut [Tensor]) -> Result<()> {
        let size = self.rate / correction(self.beta1, t);
        let bias = correction(self.beta2, t);
        for_float!(grad.dtype(), T => {
            let [beta1, fresh1] = [self.beta1, 1.0 - self.beta1].map(T::of);
            let [beta2, fresh2] = [self.beta2, 1.0 - self.beta2].map(T::of);
            let [epsilon, bias, half] = [self.epsilon, bias, 0.5 * self.power].map(T::of);
            let (size, decay) = (T::of(size), T::of(1.0 - self.rate * self.weight_decay));
            each_entry(value, grad, kept, |g: T, [theta, m, v, d]| {
                *m = beta1 * *m + fresh1 * g;
                *v = beta2 * *v + fresh2 * *d * *d;
                let length = (*v / bias).powf(half) + epsilon;
                let step = if length > T::ZERO { size * *m / length } else { T::ZERO };
                *theta = decay * *theta - step;
            })
        })
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, parameters: &[Moving<'_>]) -> Result<()> {
        let Self { rate, beta1, beta2, epsilon, power, weight_decay, .. } = *self;
        let numbers = [beta1, 1.0 - rate * weight_decay, beta2, epsilon, 0.5 * power];
        let own = |t| (rate / correction(beta1, t), correction(beta2, t));
        Ok(rule::step(gpu, parameters, &rule::ADAHESSIAN, numbers, own)?)
    }
}

impl DiagonalRule for AdaHessianConfig {
    const NEEDS_ESTIMATE: bool = true;

    fn estimator(&self) -> HessianDiagonal {
        HessianDiagonal::new(Probe::Hutchinson, self.estimate_every, self.seed)
    }

    /// |D|, averaged over the last two axes of a convolution's kernel.
    fn absorb(&self, estimate: &[f64], kept: &mut [Tensor]) -> Result<()> {
        let [_, _, d] = kept else { return Ok(()) };
        let shape = *d.shape();
        let positions = if shape.rank() == 4 { shape[2] * shape[3] } else { 1 };
        let mut sizes = room::collect(self.name(), estimate.iter().map(|d| d.abs()))?;
        for kernel in sizes.chunks_mut(positions.max(1)) {
            let mean = kernel.iter().sum::<f64>() / kernel.len() as f64;
            kernel.fill(mean);
        }
        *d = Tensor::from_vec(sizes, shape)?.to_dtype(d.dtype())?.to_device(d.device())?;
        Ok(())
    }
}
