//! SAM: the gradient of the worst point nearby, for any optimizer.
//!
//! Foret, Kleiner, Mobahi & Neyshabur 2021, "Sharpness-Aware Minimization for Efficiently Improving
//! Generalization", Algorithm 1; adaptive: Kwon, Kim, Park & Choi 2021 (ASAM).
//!
//! ```text
//! ε = ρ ∇L(θ)/‖∇L(θ)‖                  ASAM: ε = ρ T² ∇L/‖T ∇L‖,  T = |θ| + η, 1 for biases
//! θ ← the inner optimizer's step from θ, with the gradient at θ + ε
//! ```
//! ASAM's authors scale weights and leave biases (and the shifts of norms) as SAM has them: what a layer adds is not
//! rescaled when its weights are. [`SamConfig::scale_biases`] scales all. Which parameter is a bias is seen on the tape.
//!
//! Both gradients are of the same batch with the same random masks. Curvature that the inner optimizer
//! asks for is seen at θ + ε, with the gradient that it uses.

use std::collections::BTreeSet;

use engine::{
    Device, Error, Gradients, Layer, LayerObserver, LayerRecord, ParamId, Parameter, Parameters,
    Result, Tensor,
};
use kernels::length::length;

use crate::algebra::flat;
use crate::algebra::flat::plus;
use crate::check::not_negative;
use crate::frame::moments::check_gradients;
use crate::optimizer::backward::backward;
use crate::optimizer::coverage::Coverage;
use crate::optimizer::problem::{Problem, gradients, gradients_alone, gradients_observed};
use crate::{Optimizer, Sgd, SgdConfig, State};

/// Options of [`Sam`].
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamConfig {
    /// ρ, the distance to the worst point: in the parameters' units, or relative to their sizes (ASAM).
    pub radius: f64,
    /// ASAM's η; `None` for SAM.
    pub adaptive: Option<f64>,
    /// Whether ASAM scales biases, too.
    pub scale_biases: bool,
}

impl Default for SamConfig {
    /// SAM with ρ 0.05.
    fn default() -> Self {
        Self { radius: 0.05, adaptive: None, scale_biases: false }
    }
}

impl SamConfig {
    /// ASAM with its paper's ρ 0.5 and η 0.01, of weights.
    #[must_use]
    pub const fn adaptive() -> Self {
        Self { radius: 0.5, adaptive: Some(0.01), scale_biases: false }
    }

    /// ε, where `plain` says of each entry that its T is 1.
    fn away(&self, theta: &[f64], gradient: &[f64], plain: &[bool]) -> Vec<f64> {
        let scale = |(x, plain): (&f64, &bool)| match self.adaptive {
            Some(eta) if !plain => x.abs() + eta,
            _ => 1.0,
        };
        let t: Vec<f64> = theta.iter().zip(plain).map(scale).collect();
        let scaled: Vec<f64> = t.iter().zip(gradient).map(|(t, g)| t * g).collect();
        let length = length(&scaled);
        let scale = if length > 0.0 { self.radius / length } else { 0.0 };
        t.iter().zip(&scaled).map(|(t, g)| scale * t * g).collect()
    }
}

/// The biases of the layers on a tape.
#[derive(Default)]
struct Biases(BTreeSet<ParamId>);

impl LayerObserver for Biases {
    fn observe(&mut self, record: &LayerRecord) -> Result<()> {
        // That of a transposed convolution is a record of its own.
        let alone = (record.layer == Layer::Bias).then_some(record.weight);
        self.0.extend(record.bias.or(alone));
        Ok(())
    }
}

impl Biases {
    /// For each number of the model, whether it is one of a bias.
    fn marks(&self, model: &dyn Parameters) -> Vec<bool> {
        let trainable = model.parameters().into_iter().filter(|(_, p)| p.is_trainable());
        let marks = trainable
            .flat_map(|(_, p)| std::iter::repeat_n(self.0.contains(&p.id()), p.value().numel()));
        marks.collect()
    }
}

/// Sharpness-aware minimization around another optimizer. It steps by [`Optimizer::minimize`] alone.
///
/// # Example
/// ```
/// # use engine::{DType, Likelihood, Parameter, Result, Rng, Tape, Tensor, Var};
/// # struct Half;
/// # impl Likelihood for Half {
/// #     fn terms(&self) -> usize { 1 }
/// #     fn nll(&self, y: &Var) -> Result<Var> { y.mul(y)?.sum_all()?.scale(0.5) }
/// #     fn sampled_seed(&self, y: &Tensor, rng: &mut Rng) -> Result<Tensor> {
/// #         Ok(Tensor::normal(*y.shape(), 0.0, 1.0, y.dtype(), rng))
/// #     }
/// #     fn exact_seeds(&self, y: &Tensor) -> Result<Vec<Tensor>> {
/// #         Ok(vec![Tensor::ones(*y.shape(), y.dtype())])
/// #     }
/// # }
/// use alcyon_optim::{Batch, Optimizer, Sam, SamConfig};
/// let mut weight = Parameter::new(Tensor::full([1, 1], 4.0, DType::F64));
/// let forward = |weight: &Parameter, tape: &Tape| Ok(tape.bind(weight)); // the loss is ½ θ²
/// let mut optimizer = Sam::sgd(SamConfig { radius: 1.0, ..SamConfig::default() }, 0.5)?;
/// optimizer.minimize(&mut Batch::new(&mut weight, forward, &Half))?;
/// assert_eq!(weight.value().item()?, 1.5); // 4 − 0.5 · (4 + 1)
/// # Ok::<(), engine::Error>(())
/// ```
pub struct Sam {
    config: SamConfig,
    inner: Box<dyn Optimizer>,
}

impl Sam {
    /// Around an optimizer that takes gradients.
    ///
    /// # Errors
    /// [`Error::Argument`] for a negative radius, and for an inner optimizer that
    /// needs the problem itself.
    pub fn new(config: SamConfig, inner: Box<dyn Optimizer>) -> Result<Self> {
        not_negative("sam", "radius", config.radius)?;
        not_negative("sam", "adaptive", config.adaptive.unwrap_or(0.0))?;
        if inner.needs_problem() {
            let (name, expected) = ("inner", "an optimizer that steps on gradients");
            let got = inner.name().to_owned();
            return Err(engine::Error::Argument { op: "sam", name, expected, got });
        }
        Ok(Self { config, inner })
    }

    /// Around SGD with momentum 0.9, as in the paper.
    ///
    /// # Errors
    /// As [`Sam::new`].
    pub fn sgd(config: SamConfig, rate: f64) -> Result<Self> {
        let sgd = SgdConfig { rate, momentum: 0.9, ..SgdConfig::default() };
        Self::new(config, Box::new(Sgd::new(sgd)?))
    }

    /// The optimizer inside.
    #[must_use]
    pub fn inner(&self) -> &dyn Optimizer {
        &*self.inner
    }
}

impl std::fmt::Debug for Sam {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sam")
            .field("config", &self.config)
            .field("inner", &self.inner.name())
            .finish()
    }
}

impl Optimizer for Sam {
    fn name(&self) -> &'static str {
        if self.config.adaptive.is_some() { "asam" } else { "sam" }
    }

    fn needs_problem(&self) -> bool {
        true
    }

    fn runs_on(&self, device: Device) -> bool {
        self.inner.runs_on(device)
    }

    fn discard(&mut self) {
        self.inner.discard();
    }

    fn minimize(&mut self, problem: &mut dyn Problem) -> Result<f64> {
        let mut biases = Biases::default();
        let looks = self.config.adaptive.is_some() && !self.config.scale_biases;
        let (loss, here) =
            if looks { gradients_observed(problem, &mut biases)? } else { gradients(problem)? };
        check_gradients(problem.model(), &here)?;
        let theta = flat::values(problem.model())?;
        let gradient = flat::gradients(problem.model(), &here)?;
        let away = self.config.away(&theta, &gradient, &biases.marks(problem.model()));
        flat::set_values(problem.model_mut(), &plus(&theta, 1.0, &away))?;
        let seen = (|| {
            let tape = problem.tape();
            let outputs = problem.outputs(&tape)?;
            let mut pass = backward(&tape, &outputs, problem.loss(), &mut *self.inner)?;
            pass.gradients.set_unused(problem.unused());
            Ok::<_, Error>((pass.gradients, tape.staged()))
        })();
        flat::set_values(problem.model_mut(), &theta)?;
        let (there, staged) = seen?;
        self.inner.step(problem.model_mut(), &there)?;
        problem.model_mut().commit(staged)?;
        Ok(loss)
    }

    fn step(&mut self, model: &mut dyn Parameters, grads: &Gradients) -> Result<()> {
        check_gradients(model, grads)?;
        Err(gradients_alone(self.name()))
    }

    fn options(&self) -> String {
        format!("{:?}, {}", self.config, self.inner.options())
    }

    fn rate(&self) -> f64 {
        self.inner.rate()
    }

    fn set_rate(&mut self, rate: f64) {
        self.inner.set_rate(rate);
    }

    fn average(&self, parameter: &Parameter) -> Result<Option<Tensor>> {
        self.inner.average(parameter)
    }

    fn coverage(&self, model: &dyn Parameters) -> Coverage {
        self.inner.coverage(model)
    }

    fn state(&self, model: &dyn Parameters) -> Result<State> {
        let mut state = self.inner.state(model)?;
        state.optimizer = format!("{} of {}", self.name(), state.optimizer);
        Ok(state)
    }

    fn load_state(&mut self, model: &dyn Parameters, state: &State) -> Result<()> {
        let own = format!("{} of {}", self.name(), self.inner.name());
        if state.optimizer != own {
            let (what, got) = ("optimizer of a saved state", state.optimizer.clone());
            return Err(engine::Error::Unknown { what, got, known: vec![own] });
        }
        let inner = State { optimizer: self.inner.name().into(), ..state.clone() };
        self.inner.load_state(model, &inner)
    }
}
