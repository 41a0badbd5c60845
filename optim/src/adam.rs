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

use engine::{Gradients, Parameters, Result, for_float};
use kernels::step;

use crate::coverage::Coverage;
use crate::moments::{Moments, check_gradients, demand, trainable};
use crate::saved::Saved;
use crate::{Optimizer, State};

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
#[derive(Debug)]
pub struct Adam {
    config: AdamConfig,
    moments: Moments,
}

impl Adam {
    /// An optimizer that has not taken a step.
    ///
    /// # Errors
    /// [`Error::Argument`](engine::Error::Argument) when an option is outside its range.
    pub fn new(config: AdamConfig) -> Result<Self> {
        let AdamConfig { rate, beta1, beta2, epsilon, weight_decay, .. } = config;
        for (name, value) in [("rate", rate), ("epsilon", epsilon), ("weight_decay", weight_decay)]
        {
            let holds = value.is_finite() && value >= 0.0;
            demand("adam", name, value, "finite and not negative", holds)?;
        }
        demand("adam", "beta1", beta1, "in [0, 1)", (0.0..1.0).contains(&beta1))?;
        demand("adam", "beta2", beta2, "in [0, 1)", (0.0..1.0).contains(&beta2))?;
        let names: &[_] = if config.amsgrad { &["m", "v", "v_max"] } else { &["m", "v"] };
        Ok(Self { config, moments: Moments::new(names) })
    }
}

impl Optimizer for Adam {
    fn name(&self) -> &'static str {
        if self.config.decoupled { "adamw" } else { "adam" }
    }

    fn step(&mut self, model: &mut dyn Parameters, grads: &Gradients) -> Result<()> {
        check_gradients(model, grads)?;
        let AdamConfig { rate, beta1, beta2, epsilon, weight_decay, decoupled, .. } = self.config;
        for (parameter, grad) in trainable(model, grads)? {
            let kept = self.moments.next(parameter);
            let step = kept.steps;
            let rule = step::Adam { rate, beta1, beta2, epsilon, weight_decay, decoupled, step };
            let [m, v, largest @ ..] = kept.tensors.as_mut_slice() else { continue };
            for_float!(grad.dtype(), T => {
                let largest = largest.first_mut().map(|v| v.make_mut::<T>()).transpose()?;
                let theta = parameter.value_mut().make_mut::<T>()?;
                let (m, v) = (m.make_mut::<T>()?, v.make_mut::<T>()?);
                step::adam(theta, grad.as_slice::<T>()?, m, v, largest, &rule);
            });
        }
        Ok(())
    }

    fn rate(&self) -> f64 {
        self.config.rate
    }

    fn set_rate(&mut self, rate: f64) {
        self.config.rate = rate;
    }

    fn coverage(&self, model: &dyn Parameters) -> Coverage {
        let rule = "first and root of second moment";
        Coverage::first_order(model, rule, |p| self.moments.bytes(p))
    }

    fn state(&self, model: &dyn Parameters) -> Result<State> {
        let mut state = State { optimizer: self.name().to_owned(), ..State::default() };
        state.numbers.insert("rate".to_owned(), self.config.rate.to_string());
        self.moments.save(model, &mut state);
        Ok(state)
    }

    fn load_state(&mut self, model: &dyn Parameters, state: &State) -> Result<()> {
        let mut saved = Saved::open(self.name(), state)?;
        let rate = saved.number("rate")?;
        let moments = self.moments.load(model, &mut saved)?;
        saved.close(model)?;
        self.config.rate = rate;
        self.moments = moments;
        Ok(())
    }
}
