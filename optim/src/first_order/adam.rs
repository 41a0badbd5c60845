//! Adam.  Kingma & Ba 2015, Algorithm 1;  AdamW: Loshchilov & Hutter 2019;  AMSGrad: Reddi, Kale &
//! Kumar 2018.
//!
//! ```text
//! g ← g + κ θ                          coupled weight decay;  AdamW instead  θ ← θ − α κ θ
//! m ← β₁ m + (1 − β₁) g
//! v ← β₂ v + (1 − β₂) g²               AMSGrad: the largest v so far is used below
//! θ ← θ − α (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)
//! ```
//! t counts the parameter's own steps. Deviation from Reddi et al.: the largest *uncorrected* v is
//! kept and the correction is applied to it, as PyTorch does.

use engine::{Parameter, Result, Tensor, for_float};
#[cfg(feature = "cuda")]
use kernels::cuda::{Gpu, step::Moving};
use kernels::step;

use crate::check::{below_one, not_negative};
use crate::frame::per_parameter::{PerParameter, Rule, Start, zeros};

/// Options of [`Adam`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AdamConfig {
    /// α, the learning rate: about the length of a step in every entry.
    pub rate: f64,
    /// β₁ in [0, 1), the weight of the old first moment.
    pub beta1: f64,
    /// β₂ in [0, 1), the weight of the old second moment.
    pub beta2: f64,
    /// ε, in units of the gradient.
    pub epsilon: f64,
    /// κ.
    pub weight_decay: f64,
    /// AdamW: κ acts on the parameter directly and is not divided by √v.
    pub decoupled: bool,
    /// Divides by the largest second moment seen.
    pub amsgrad: bool,
}

impl Default for AdamConfig {
    /// The values of the paper: α = 0.001, β = 0.9 and 0.999, ε = 1e-8, no decay.
    fn default() -> Self {
        Self {
            rate: 1e-3,
            beta1: 0.9,
            beta2: 0.999,
            epsilon: 1e-8,
            weight_decay: 0.0,
            decoupled: false,
            amsgrad: false,
        }
    }
}

impl AdamConfig {
    /// AdamW with PyTorch's decay of 0.01.
    #[must_use]
    pub fn adamw() -> Self {
        Self { weight_decay: 0.01, decoupled: true, ..Self::default() }
    }
}

impl AdamConfig {
    const fn rule(&self, t: u64) -> step::Adam {
        let Self { rate, beta1, beta2, epsilon, weight_decay, decoupled, .. } = *self;
        step::Adam { rate, beta1, beta2, epsilon, weight_decay, decoupled, step: t }
    }
}

/// Adam, AdamW and AMSGrad.
///
/// # Example
/// ```
/// use engine::{DType, Gradients, Parameter, Tensor};
/// use alcyon_optim::{Adam, AdamConfig, Optimizer};
/// let mut weight = Parameter::new(Tensor::zeros([2], DType::F64));
/// let mut grads = Gradients::default();
/// grads.set(&weight, Tensor::from_slice(&[3.0, -0.5], [2])?);
/// let mut adam = Adam::new(AdamConfig { rate: 0.25, epsilon: 0.0, ..AdamConfig::default() })?;
/// adam.step(&mut weight, &grads)?; // the first step has length α, whatever the gradient
/// let moved = weight.value().to_vec::<f64>()?;
/// assert!((moved[0] + 0.25).abs() < 1e-12 && (moved[1] - 0.25).abs() < 1e-12);
/// # Ok::<(), engine::Error>(())
/// ```
pub type Adam = PerParameter<AdamConfig>;

impl Rule for AdamConfig {
    fn name(&self) -> &'static str {
        if self.decoupled { "adamw" } else { "adam" }
    }

    fn check(&self) -> Result<()> {
        not_negative("adam", "epsilon", self.epsilon)?;
        not_negative("adam", "weight_decay", self.weight_decay)?;
        below_one("adam", "beta1", self.beta1)?;
        below_one("adam", "beta2", self.beta2)
    }

    fn rate(&self) -> f64 {
        self.rate
    }

    fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    fn words(&self, _: &Parameter) -> String {
        "first and root of second moment".into()
    }

    fn start(&self, parameter: &Parameter) -> Start {
        zeros(parameter, if self.amsgrad { &["m", "v", "v_max"] } else { &["m", "v"] })
    }

    fn update(&self, t: u64, value: &mut Tensor, grad: &Tensor, kept: &mut [Tensor]) -> Result<()> {
        let rule = self.rule(t);
        let [m, v, largest @ ..] = kept else { return Ok(()) };
        for_float!(grad.dtype(), T => {
            let largest = largest.first_mut().map(|v| v.make_mut::<T>()).transpose()?;
            let (theta, m, v) = (value.make_mut::<T>()?, m.make_mut::<T>()?, v.make_mut::<T>()?);
            step::adam(theta, grad.as_slice::<T>()?, m, v, largest, &rule);
        });
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, parameters: &[Moving<'_>]) -> Result<()> {
        Ok(kernels::cuda::step::adam(gpu, parameters, &self.rule(1))?)
    }
}
