//! `Optimizer`: what the training loop calls, and what every optimizer can say about itself.

use std::collections::BTreeMap;

use engine::{Device, Gradients, Parameter, Parameters, Result, Tensor};

use super::backward::backward;
use super::coverage::Coverage;
use super::problem::Problem;
use crate::curvature::CurvatureSource;
use crate::curvature::communicator::Communicator;
use crate::curvature::estimate::hessian_diagonal::HessianDiagonal;

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
        let mut pass = backward(&tape, &outputs, problem.loss(), self)?;
        pass.gradients.set_unused(problem.unused());
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

    /// Forgets what [`backward`](crate::backward()) has shown its estimators since the last step that was taken,
    /// and the draws that were made for it. A step that is refused does this by itself. To be called when a step
    /// is skipped: the optimizer is then, bit for bit, as if those batches had never been.
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
    /// use alcyon_optim::{Kfac, KfacConfig, Optimizer, backward};
    /// let mut weight = Parameter::new(Tensor::full([1, 1], 4.0, DType::F64));
    /// let mut kfac = Kfac::new(KfacConfig::default())?;
    /// let before = kfac.state(&weight)?.numbers;
    /// let tape = Tape::new();
    /// let y = tape.input(Tensor::full([1, 1], 1e9, DType::F64)).linear(&tape.bind(&weight), None)?;
    /// let pass = backward(&tape, &y, &Half, &mut kfac)?;
    /// if pass.loss.item()? > 1e6 {
    ///     kfac.discard(); // an outlier: no step
    /// }
    /// assert_eq!(kfac.state(&weight)?.numbers, before);
    /// # Ok::<(), engine::Error>(())
    /// ```
    fn discard(&mut self) {
        if let Some(source) = self.curvature() {
            source.discard();
        }
        if let Some(estimator) = self.hessian_diagonal() {
            estimator.discard();
        }
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

    /// One update of every trainable parameter; with [`Unused::Skip`](engine::Unused), of every one that has a
    /// gradient.
    ///
    /// # Errors
    /// [`Error::MissingGradient`](engine::Error::MissingGradient) for a trainable parameter without a gradient;
    /// [`Error::Unowned`](engine::Error::Unowned) for a gradient without a parameter in the model;
    /// [`Error::Argument`](engine::Error::Argument), in the parameter's path, for a gradient with a NaN or an
    /// infinity, or with numbers whose squares do not fit its dtype (above 10¹⁹ in f32, 10⁵⁰ in f64). Model and state
    /// are as before then, and what was observed for the step is forgotten ([`Optimizer::discard`]). An optimizer that
    /// needs a [`Problem`] refuses, and says
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
