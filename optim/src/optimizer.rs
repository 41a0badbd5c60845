//! `Optimizer`: what the training loop calls, and what every optimizer can say about itself.

use std::collections::BTreeMap;

use engine::{Device, Gradients, Parameter, Parameters, Result, Tensor};

use crate::backward::backward;
use crate::coverage::Coverage;
use crate::curvature::CurvatureSource;
use crate::curvature::communicator::Communicator;
use crate::curvature::hessian_diagonal::HessianDiagonal;
use crate::problem::Problem;

/// Direction → parameter: reads gradients, writes parameters.
pub trait Optimizer {
    /// Its name, as on the command line and in tables.
    fn name(&self) -> &'static str;

    /// The estimator that wants to see layer records, if there is one.
    fn curvature(&mut self) -> Option<&mut dyn CurvatureSource> {
        None
    }

    /// The estimator of the Hessian's diagonal that wants to see tapes, if there is one.
    fn hessian_diagonal(&mut self) -> Option<&mut HessianDiagonal> {
        None
    }

    /// One step on a batch that can be evaluated again; returns the loss before it. Most optimizers
    /// evaluate it once: backward, then [`Optimizer::step`]. Buffers (running means) are committed.
    ///
    /// # Errors
    /// Those of the problem, the backward pass and the step.
    fn minimize(&mut self, problem: &mut dyn Problem) -> Result<f64> {
        let tape = problem.tape();
        let outputs = problem.outputs(&tape)?;
        let pass = backward(&tape, &outputs, problem.loss(), self)?;
        let staged = tape.staged();
        // Values that the tape still held would have to be copied by the step.
        drop((outputs, tape));
        self.step(problem.model_mut(), &pass.gradients)?;
        problem.model_mut().commit(staged)?;
        pass.loss.item()
    }

    /// Whether a step needs the loss itself: then [`Optimizer::step`], which has gradients alone, is
    /// refused, and [`Optimizer::minimize`] is the only way.
    fn needs_problem(&self) -> bool {
        false
    }

    /// Several workers have swept a part of the batch each: adds up what their estimators have seen,
    /// so that [`Optimizer::step`] is the same on all of them. An optimizer without an estimator has
    /// nothing to add.
    ///
    /// # Errors
    /// The communicator's; [`Error::Argument`](engine::Error::Argument) when the workers have seen other layers.
    fn exchange(&mut self, communicator: &mut dyn Communicator) -> Result<()> {
        self.curvature().map_or(Ok(()), |source| source.exchange(communicator))
    }

    /// Whether it can train parameters on a device: where it cannot, `backward` and `minimize` refuse.
    fn runs_on(&self, device: Device) -> bool {
        device == Device::Cpu
    }

    /// One update of every trainable parameter.
    ///
    /// # Errors
    /// [`Error::MissingGradient`](engine::Error::MissingGradient) for a trainable parameter without a gradient;
    /// [`Error::Argument`](engine::Error::Argument), in the parameter's path, for a gradient with a NaN or an
    /// infinity, or with numbers whose squares do not fit its dtype (above 10¹⁹ in f32, 10⁵⁰ in f64). Model and state
    /// are as before then. An optimizer that needs a [`Problem`] refuses, and says
    /// to call [`Optimizer::minimize`]. What it may find besides is said at its type.
    fn step(&mut self, model: &mut dyn Parameters, grads: &Gradients) -> Result<()>;

    /// Its constants, in words that are others for others: what belongs to a run's settings. None are said by an
    /// optimizer that does not know better.
    fn options(&self) -> String {
        String::new()
    }

    /// The learning rate now.
    fn rate(&self) -> f64;

    /// Sets the learning rate: what a schedule does before each step.
    fn set_rate(&mut self, rate: f64);

    /// The value to evaluate a parameter with, for optimizers that train one point and recommend
    /// another (an average over time); `None` when it is the parameter's own.
    ///
    /// # Errors
    /// None in practice; reading tensors can fail on devices.
    fn average(&self, _parameter: &Parameter) -> Result<Option<Tensor>> {
        Ok(None)
    }

    /// Every parameter of the model, the rule it gets, and the bytes of state it costs. What only
    /// a backward pass can tell (which layer a parameter belongs to) is known after the first.
    fn coverage(&self, model: &dyn Parameters) -> Coverage;

    /// Everything that has to be saved so that a resumed run equals an uninterrupted one.
    ///
    /// # Errors
    /// None in practice; reading tensors can fail on devices.
    fn state(&self, model: &dyn Parameters) -> Result<State>;

    /// Takes a saved state over.
    ///
    /// # Errors
    /// [`Error::Unknown`](engine::Error::Unknown) or [`Error::Shape`](engine::Error::Shape) when it is another optimizer's or model's; nothing
    /// is changed then.
    fn load_state(&mut self, model: &dyn Parameters, state: &State) -> Result<()>;
}

/// A saved optimizer: tensors and numbers by name. Names start with the parameter's path.
#[derive(Debug, Clone, Default)]
pub struct State {
    /// The optimizer's [`Optimizer::name`].
    pub optimizer: String,
    /// Counters and generator states, printed so that they read back exactly.
    pub numbers: BTreeMap<String, String>,
    /// Moments and factors, keyed like `layers.1.weight/m`.
    pub tensors: BTreeMap<String, Tensor>,
}
