//! SGD: stochastic gradient descent.  Robbins & Monro 1951; momentum: Polyak 1964; its look-ahead
//! form: Nesterov 1983, as in Sutskever et al. 2013.
//!
//! ```text
//! g ← g + κ θ                          κ = weight decay
//! b ← μ b + (1 − d) g                  μ = momentum, d = dampening; b = g at the first step
//! θ ← θ − α b        or, with Nesterov's rule,   θ ← θ − α (g + μ b)
//! ```
//! This is PyTorch's order of things: the rate multiplies the buffer, it does not enter it.

use engine::{Error, Parameter, Result, Tensor, for_float};
#[cfg(feature = "cuda")]
use kernels::cuda::{Gpu, step::Moving};
use kernels::step;

use crate::check::{demand, not_negative};
use crate::frame::per_parameter::{PerParameter, Rule, Start, zeros};

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
pub type Sgd = PerParameter<SgdConfig>;

impl SgdConfig {
    const fn rule(&self, t: u64) -> step::Sgd {
        let Self { rate, momentum, dampening, nesterov, weight_decay } = *self;
        step::Sgd { rate, momentum, dampening, nesterov, weight_decay, first: t == 1 }
    }
}

impl Rule for SgdConfig {
    fn name(&self) -> &'static str {
        "sgd"
    }

    fn check(&self) -> Result<()> {
        let Self { momentum, dampening, nesterov, weight_decay, .. } = *self;
        demand("sgd", "momentum", momentum, "in [0, 1)", (0.0..1.0).contains(&momentum))?;
        demand("sgd", "dampening", dampening, "in [0, 1]", (0.0..=1.0).contains(&dampening))?;
        not_negative("sgd", "weight_decay", weight_decay)?;
        if nesterov && (momentum == 0.0 || dampening != 0.0) {
            let got = format!("true with momentum {momentum} and dampening {dampening}");
            let expected = "used with momentum and without dampening";
            return Err(Error::Argument { op: "sgd", name: "nesterov", expected, got });
        }
        Ok(())
    }

    fn rate(&self) -> f64 {
        self.rate
    }

    fn set_rate(&mut self, rate: f64) {
        self.rate = rate;
    }

    fn words(&self, _: &Parameter) -> String {
        if self.momentum > 0.0 { "gradient with momentum" } else { "gradient" }.into()
    }

    fn start(&self, parameter: &Parameter) -> Start {
        zeros(parameter, if self.momentum > 0.0 { &["b"] } else { &[] })
    }

    fn update(&self, t: u64, value: &mut Tensor, grad: &Tensor, kept: &mut [Tensor]) -> Result<()> {
        let rule = self.rule(t);
        for_float!(grad.dtype(), T => {
            let buffer = kept.first_mut().map(|b| b.make_mut::<T>()).transpose()?;
            step::sgd(value.make_mut::<T>()?, grad.as_slice::<T>()?, buffer, &rule);
        });
        Ok(())
    }

    #[cfg(feature = "cuda")]
    fn cuda(&self, gpu: &Gpu, parameters: &[Moving<'_>]) -> Result<()> {
        Ok(kernels::cuda::step::sgd(gpu, parameters, &self.rule(1))?)
    }
}
