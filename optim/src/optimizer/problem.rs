//! `Problem`: a batch that can be evaluated again, for optimizers that look before they leap.
//!
//! Most optimizers see one gradient for each step. Line searches (L-BFGS), trial steps (SAM), exact
//! curvature along a direction (adaptive K-FAC, Hessian-free, Newton) see the loss itself. Both kinds
//! take a step through [`minimize`](crate::Optimizer::minimize).

use std::sync::atomic::{AtomicU64, Ordering};

use engine::{Error, Gradients, LayerObserver, Likelihood, Parameters, Result, Tape, Unused, Var};

/// A model, a batch and a loss.
pub trait Problem {
    /// The model.
    fn model(&self) -> &dyn Parameters;

    /// The model, to be stepped.
    fn model_mut(&mut self) -> &mut dyn Parameters;

    /// A tape to evaluate on. Every one of a batch draws the same random masks.
    fn tape(&self) -> Tape;

    /// The model's outputs for the batch.
    ///
    /// # Errors
    /// The model's own.
    fn outputs(&self, tape: &Tape) -> Result<Var>;

    /// The loss of the batch.
    fn loss(&self) -> &dyn Likelihood;

    /// The number of this batch, where batches have one: two problems of one number have the same loss at the
    /// same parameters, and an optimizer need not evaluate a point of it twice.
    fn number(&self) -> Option<u64> {
        None
    }

    /// What becomes of trainable parameters that the loss does not use.
    fn unused(&self) -> Unused {
        Unused::Refuse
    }
}

/// A [`Problem`] from a model, a closure that evaluates it, and a loss. Each one made is a batch of its own: an
/// optimizer that is called with the same one again goes on from what it knows of it.
///
/// # Example
/// ```
/// use engine::{DType, Likelihood, Parameter, Result, Rng, Tape, Tensor, Var};
/// use alcyon_optim::{Batch, Optimizer, Sgd, SgdConfig};
/// /// ½ y²
/// struct Half;
/// impl Likelihood for Half {
///     fn terms(&self) -> usize { 1 }
///     fn nll(&self, y: &Var) -> Result<Var> { y.mul(y)?.sum_all()?.scale(0.5) }
///     fn sampled_seed(&self, y: &Tensor, rng: &mut Rng) -> Result<Tensor> {
///         Ok(Tensor::normal(*y.shape(), 0.0, 1.0, y.dtype(), rng))
///     }
///     fn exact_seeds(&self, y: &Tensor) -> Result<Vec<Tensor>> {
///         Ok(vec![Tensor::ones(*y.shape(), y.dtype())])
///     }
/// }
/// let mut weight = Parameter::new(Tensor::full([1, 1], 4.0, DType::F64));
/// let forward = |weight: &Parameter, tape: &Tape| Ok(tape.bind(weight));
/// let mut sgd = Sgd::new(SgdConfig { rate: 0.5, ..SgdConfig::default() })?;
/// let loss = sgd.minimize(&mut Batch::new(&mut weight, forward, &Half))?;
/// assert_eq!((loss, weight.value().item()?), (8.0, 2.0));
/// # Ok::<(), engine::Error>(())
/// ```
pub struct Batch<'a, M, F> {
    model: &'a mut M,
    forward: F,
    loss: &'a dyn Likelihood,
    training: Option<u64>,
    number: u64,
    unused: Unused,
}

/// A number that no batch has had.
fn next_number() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

impl<'a, M: Parameters, F: Fn(&M, &Tape) -> Result<Var>> Batch<'a, M, F> {
    /// A batch in evaluation mode.
    pub fn new(model: &'a mut M, forward: F, loss: &'a dyn Likelihood) -> Self {
        let number = next_number();
        Self { model, forward, loss, training: None, number, unused: Unused::Refuse }
    }

    /// The same in training mode, with the seed of the tapes.
    #[must_use]
    pub fn training(mut self, seed: u64) -> Self {
        (self.training, self.number) = (Some(seed), next_number());
        self
    }

    /// The same, where trainable parameters that the loss does not use are left as they are, for example.
    #[must_use]
    pub const fn unused(mut self, unused: Unused) -> Self {
        self.unused = unused;
        self
    }
}

impl<M: Parameters, F: Fn(&M, &Tape) -> Result<Var>> Problem for Batch<'_, M, F> {
    fn model(&self) -> &dyn Parameters {
        self.model
    }

    fn model_mut(&mut self) -> &mut dyn Parameters {
        self.model
    }

    fn tape(&self) -> Tape {
        self.training.map_or_else(Tape::new, Tape::training)
    }

    fn outputs(&self, tape: &Tape) -> Result<Var> {
        (self.forward)(self.model, tape)
    }

    fn loss(&self) -> &dyn Likelihood {
        self.loss
    }

    fn number(&self) -> Option<u64> {
        Some(self.number)
    }

    fn unused(&self) -> Unused {
        self.unused
    }
}

impl<M, F> std::fmt::Debug for Batch<'_, M, F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Batch").field("training", &self.training).finish_non_exhaustive()
    }
}

/// A batch evaluated at a point, on its tape.
#[derive(Debug)]
pub(crate) struct Evaluation {
    pub(crate) tape: Tape,
    pub(crate) outputs: Var,
}

impl Evaluation {
    pub(crate) fn of(problem: &dyn Problem) -> Result<Self> {
        let tape = problem.tape();
        let outputs = problem.outputs(&tape)?;
        Ok(Self { tape, outputs })
    }

    pub(crate) fn loss(&self, problem: &dyn Problem) -> Result<f64> {
        problem.loss().nll(&self.outputs)?.item()
    }
}

/// The loss, and nothing else.
pub(crate) fn evaluate(problem: &dyn Problem) -> Result<f64> {
    Evaluation::of(problem)?.loss(problem)
}

/// The loss and its gradients.
pub(crate) fn gradients(problem: &dyn Problem) -> Result<(f64, Gradients)> {
    let tape = problem.tape();
    let loss = problem.loss().nll(&problem.outputs(&tape)?)?;
    let mut gradients = tape.backward(&loss)?;
    gradients.set_unused(problem.unused());
    Ok((loss.item()?, gradients))
}

/// The same, with an observer of the layers.
pub(crate) fn gradients_observed(
    problem: &dyn Problem,
    observer: &mut dyn LayerObserver,
) -> Result<(f64, Gradients)> {
    let tape = problem.tape();
    let loss = problem.loss().nll(&problem.outputs(&tape)?)?;
    let mut gradients = tape.backward_observed(&loss, observer)?;
    gradients.set_unused(problem.unused());
    Ok((loss.item()?, gradients))
}

/// What an optimizer that needs a problem says to gradients.
pub(crate) fn gradients_alone(op: &'static str) -> Error {
    let got = "gradients alone".to_owned();
    Error::Argument { op, name: "step", expected: "taken by `minimize`, with a problem", got }
}
