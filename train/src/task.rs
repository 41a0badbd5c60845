//! What is learned: how a batch becomes outputs, outputs a loss, and a loss a score.

use engine::{Likelihood, Result, Tape, Tensor, Unused, Var};
use nn::data::Batch;
use nn::{CrossEntropy, Module, metric};
use serde::{Deserialize, Serialize};

/// What an evaluation is judged by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Score {
    /// The share of rows whose largest output is at the label; higher is better.
    Accuracy,
    /// exp(loss); lower is better.
    Perplexity,
    /// The loss itself; lower is better.
    Loss,
}

impl Score {
    /// As in tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Accuracy => "accuracy",
            Self::Perplexity => "perplexity",
            Self::Loss => "loss",
        }
    }

    /// Whether the first is better than the second; NaN is better than nothing.
    #[must_use]
    pub fn is_better(self, one: f64, other: f64) -> bool {
        match self {
            Self::Accuracy => one > other,
            Self::Perplexity | Self::Loss => one < other,
        }
    }
}

/// How a model is used in training. Most are [`Supervised`]; one's own may do anything on the tape.
pub trait Task<M: ?Sized> {
    /// The model's outputs for a batch. The tape knows whether this is training. This is also the seam
    /// for mixed precision: what is cast on its way onto the tape (f32 as it comes, by default) is cast here.
    ///
    /// # Errors
    /// The model's own.
    fn outputs(&self, model: &M, tape: &Tape, batch: &Batch) -> Result<Var>;

    /// The loss of a batch.
    fn loss(&self, batch: &Batch) -> Box<dyn Likelihood>;

    /// What becomes of trainable parameters that the loss of a step's batches does not use: refused, or left as
    /// they are.
    fn unused(&self) -> Unused {
        Unused::Refuse
    }

    /// What evaluations are judged by.
    fn score(&self) -> Score;

    /// Rows of an evaluated batch that are right; only asked for with [`Score::Accuracy`].
    ///
    /// # Errors
    /// When outputs and targets do not fit.
    fn right(&self, outputs: &Tensor, batch: &Batch) -> Result<usize> {
        metric::correct(outputs, &batch.targets)
    }
}

/// A module that maps the inputs of a batch to outputs, and a closure that makes the loss.
///
/// # Example
/// ```
/// use alcyon_train::{Score, Supervised, Task};
/// use engine::{DType, Rng, Tape, Tensor};
/// use nn::{Mlp, Mse, data::Batch};
/// let batch = Batch { inputs: Tensor::ones([2, 3], DType::F32), targets: Tensor::ones([2, 1], DType::F32) };
/// let regression = Supervised::new(|batch: &Batch| Box::new(Mse::new(&batch.targets)) as _, Score::Loss);
/// let model = Mlp::new(&[3, 1], &mut Rng::new(0));
/// let outputs = regression.outputs(&model, &Tape::off(), &batch)?;
/// assert!(Task::<Mlp>::loss(&regression, &batch).nll(&outputs)?.item()? > 0.0);
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Supervised<L> {
    loss: L,
    score: Score,
}

/// What [`Supervised`]'s ready-made tasks hold: a batch's targets become its loss.
pub type LossOf = fn(&Batch) -> Box<dyn Likelihood>;

impl<L: Fn(&Batch) -> Box<dyn Likelihood>> Supervised<L> {
    /// Any loss.
    pub const fn new(loss: L, score: Score) -> Self {
        Self { loss, score }
    }
}

impl Supervised<LossOf> {
    /// Classes: cross entropy, judged by accuracy. Outputs `[N, C]`, targets `[N]`.
    #[must_use]
    pub const fn classification() -> Self {
        Self { loss: cross_entropy, score: Score::Accuracy }
    }

    /// The next token: cross entropy, judged by perplexity. Outputs `[N, T, V]`, targets `[N, T]`.
    #[must_use]
    pub const fn language_model() -> Self {
        Self { loss: cross_entropy, score: Score::Perplexity }
    }
}

fn cross_entropy(batch: &Batch) -> Box<dyn Likelihood> {
    Box::new(CrossEntropy::new(&batch.targets))
}

impl<M: Module + ?Sized, L: Fn(&Batch) -> Box<dyn Likelihood>> Task<M> for Supervised<L> {
    fn outputs(&self, model: &M, tape: &Tape, batch: &Batch) -> Result<Var> {
        model.forward(&tape.input(batch.inputs.clone()))
    }

    fn loss(&self, batch: &Batch) -> Box<dyn Likelihood> {
        (self.loss)(batch)
    }

    fn score(&self) -> Score {
        self.score
    }
}
