//! SGD: stochastic gradient descent.  Robbins & Monro 1951; momentum: Polyak 1964; its look-ahead
//! form: Nesterov 1983, as in Sutskever et al. 2013.
//!
//! ```text
//! g ← g + κ θ                          κ = weight decay
//! b ← μ b + (1 − d) g                  μ = momentum, d = dampening; b = g at the first step
//! θ ← θ − α b        or, with Nesterov's rule,   θ ← θ − α (g + μ b)
//! ```
//! This is PyTorch's order of things: the rate multiplies the buffer, it does not enter it.

use engine::{Error, Gradients, Parameters, Result, for_float};
use kernels::step;

use crate::coverage::Coverage;
use crate::moments::{Moments, check_gradients, demand, trainable};
use crate::saved::Saved;
use crate::{Optimizer, State};

/// Options of [`Sgd`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SgdConfig {
    /// α, the learning rate, per step.
    pub rate: f64,
    /// μ, in [0, 1). With 0 no buffer is kept.
    pub momentum: f64,
    /// d, in [0, 1]: how much of a new gradient is held back from the buffer.
    pub dampening: f64,
    /// Looks ahead along the buffer. Needs momentum, and no dampening.
    pub nesterov: bool,
    /// κ, coupled: it is added to the gradient (an L2 penalty of κ/2 ‖θ‖²).
    pub weight_decay: f64,
}

impl Default for SgdConfig {
    /// Rate 0.01, nothing else.
    fn default() -> Self {
        Self { rate: 0.01, momentum: 0.0, dampening: 0.0, nesterov: false, weight_decay: 0.0 }
    }
}

/// Stochastic gradient descent.
///
/// # Example
/// ```
/// use engine::{DType, Gradients, Parameter, Tensor};
/// use alcyon_optim::{Optimizer, Sgd, SgdConfig};
/// let mut weight = Parameter::new(Tensor::full([2], 1.0, DType::F64));
/// let mut grads = Gradients::default();
/// grads.set(&weight, Tensor::from_slice(&[1.0, -2.0], [2])?);
/// let mut sgd = Sgd::new(SgdConfig { rate: 0.5, ..SgdConfig::default() })?;
/// sgd.step(&mut weight, &grads)?;
/// assert_eq!(weight.value().to_vec::<f64>()?, [0.5, 2.0]);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug)]
pub struct Sgd {
    config: SgdConfig,
    moments: Moments,
}

impl Sgd {
    /// An optimizer that has not taken a step.
    ///
    /// # Errors
    /// [`Error::Argument`] when an option is outside its range.
    pub fn new(config: SgdConfig) -> Result<Self> {
        let SgdConfig { rate, momentum, dampening, nesterov, weight_decay } = config;
        demand("sgd", "rate", rate, "finite and not negative", rate.is_finite() && rate >= 0.0)?;
        demand("sgd", "momentum", momentum, "in [0, 1)", (0.0..1.0).contains(&momentum))?;
        demand("sgd", "dampening", dampening, "in [0, 1]", (0.0..=1.0).contains(&dampening))?;
        let decay_fits = weight_decay.is_finite() && weight_decay >= 0.0;
        demand("sgd", "weight_decay", weight_decay, "finite and not negative", decay_fits)?;
        if nesterov && (momentum == 0.0 || dampening != 0.0) {
            let got = format!("true with momentum {momentum} and dampening {dampening}");
            let expected = "used with momentum and without dampening";
            return Err(Error::Argument { op: "sgd", name: "nesterov", expected, got });
        }
        Ok(Self { config, moments: Moments::new(if momentum > 0.0 { &["b"] } else { &[] }) })
    }
}

impl Optimizer for Sgd {
    fn name(&self) -> &'static str {
        "sgd"
    }

    fn step(&mut self, model: &mut dyn Parameters, grads: &Gradients) -> Result<()> {
        check_gradients(model, grads)?;
        let SgdConfig { rate, momentum, dampening, nesterov, weight_decay } = self.config;
        for (parameter, grad) in trainable(model, grads)? {
            let kept = self.moments.next(parameter);
            let first = kept.steps == 1;
            let rule = step::Sgd { rate, momentum, dampening, nesterov, weight_decay, first };
            for_float!(grad.dtype(), T => {
                let buffer = kept.tensors.first_mut().map(|b| b.make_mut::<T>()).transpose()?;
                let theta = parameter.value_mut().make_mut::<T>()?;
                step::sgd(theta, grad.as_slice::<T>()?, buffer, &rule);
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
        let rule = if self.config.momentum > 0.0 { "gradient with momentum" } else { "gradient" };
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
