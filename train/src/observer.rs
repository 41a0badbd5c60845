//! What happens in a run, told to whoever listens: progress bars, metrics files, reports.

use std::path::Path;

use engine::{Error, Parameters, Result};
use optim::Optimizer;

use crate::{About, Best, LossScale, Place, Score};

/// One optimizer step, or several of which this is the last.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Step {
    /// Its number; the first step is 1.
    pub step: u64,
    /// The epoch it belongs to.
    pub epoch: u64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// The mean of the batches' losses since the last step that was told.
    pub loss: f64,
    /// The learning rate.
    pub rate: f64,
    /// The norm of the gradients before they were clipped; only known when they are to be.
    pub norm: Option<f64>,
    /// The share of the budget that is used up.
    pub used: f64,
}

/// One pass over the data that is evaluated on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evaluation {
    /// Steps taken before it.
    pub step: u64,
    /// Epochs completed, or the one going on.
    pub epoch: u64,
    /// Seconds of training so far.
    pub seconds: f64,
    /// Mean over all terms.
    pub loss: f64,
    /// By the task's [`Score`].
    pub score: f64,
    /// Whether it is the best so far.
    pub best: bool,
}

/// Why a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The budget is used up.
    Budget,
    /// So many evaluations in a row brought nothing better.
    Patience,
    /// Somebody asked for it ([`Trainer::stop_when`](crate::Trainer::stop_when)): a snapshot is there, and the
    /// same run goes on from it.
    Asked,
}

impl Stop {
    /// As in records.
    #[must_use]
    pub const fn why(self) -> &'static str {
        match self {
            Self::Budget => "the budget was used up",
            Self::Patience => "nothing better came for too long",
            Self::Asked => "interrupted",
        }
    }
}

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// Where it ended.
    pub place: Place,
    /// Why.
    pub stop: Stop,
    /// The last evaluation of this process, if there was one.
    pub last: Option<Evaluation>,
}

impl Outcome {
    /// The best evaluation.
    #[must_use]
    pub const fn best(&self) -> Option<Best> {
        self.place.best
    }
}

/// Something that happened.
#[derive(Clone, Copy)]
#[non_exhaustive]
pub enum Event<'a> {
    /// The run begins, or goes on from a snapshot at this place. What was told about later steps, by a
    /// process that is no more, did not happen.
    Started {
        /// Where; step 0 for a new run.
        place: &'a Place,
        /// What evaluations are judged by.
        score: Score,
        /// Steps in each epoch.
        steps_per_epoch: u64,
    },
    /// A step was taken.
    Stepped(&'a Step),
    /// A step was skipped: in f16 its gradients were not finite, and the scale has been halved.
    Overflowed {
        /// The step's number; the first is 1.
        step: u64,
        /// The scale from now on, and how many steps have been skipped.
        loss_scale: LossScale,
    },
    /// The model was evaluated.
    Evaluated {
        /// What came out.
        evaluation: &'a Evaluation,
        /// The model, at its trained (not its averaged) values.
        model: &'a dyn Parameters,
        /// Its optimizer.
        optimizer: &'a dyn Optimizer,
    },
    /// A snapshot is about to be written: what was told until now has to be on the disk first.
    Saving {
        /// Where.
        place: &'a Place,
    },
    /// A snapshot was written.
    Saved {
        /// Its manifest.
        file: &'a Path,
    },
    /// A file of the run is not what was written, and is not used. Before `Started`.
    Damaged {
        /// The file.
        file: &'a Path,
        /// Where it, or the damaged part of it, is kept; none of a file that is gone.
        kept: Option<&'a Path>,
        /// What is wrong with it.
        error: &'a Error,
    },
    /// The run, once started, ends with an error, which the caller will get.
    Failed {
        /// Where: the last snapshot is older.
        place: &'a Place,
        /// What happened.
        error: &'a Error,
    },
    /// The run is over.
    Finished {
        /// What it came to.
        outcome: &'a Outcome,
        /// The trained model.
        model: &'a dyn Parameters,
        /// Its optimizer.
        optimizer: &'a dyn Optimizer,
    },
}

/// Someone who is told. The loop itself prints nothing and, but for snapshots, writes nothing.
///
/// # Example
/// ```
/// use alcyon_train::{Event, Observer};
/// let mut steps = 0;
/// let mut count = |event: &Event<'_>| {
///     steps += u32::from(matches!(event, Event::Stepped(_)));
///     Ok(())
/// };
/// let observer: &mut dyn Observer = &mut count;
/// # let _ = observer;
/// ```
pub trait Observer {
    /// Something happened.
    ///
    /// # Errors
    /// The observer's own, a full disk perhaps: the run ends with it.
    fn on(&mut self, event: &Event<'_>) -> Result<()>;

    /// The run's folder that it writes to, if it does. The trainer locks it, refuses other settings than it was
    /// made with, and keeps the run's record in it.
    fn folder(&self) -> Option<&Path> {
        None
    }

    /// Adds what it knows to the run's record, before the run begins.
    fn describe(&self, _about: &mut About) {}
}

impl<F: FnMut(&Event<'_>) -> Result<()>> Observer for F {
    fn on(&mut self, event: &Event<'_>) -> Result<()> {
        self(event)
    }
}

impl std::fmt::Debug for Event<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Started { place, .. } => f.debug_tuple("Started").field(place).finish(),
            Self::Overflowed { step, loss_scale } => {
                f.debug_tuple("Overflowed").field(step).field(loss_scale).finish()
            }
            Self::Stepped(step) => f.debug_tuple("Stepped").field(step).finish(),
            Self::Evaluated { evaluation, .. } => {
                f.debug_tuple("Evaluated").field(evaluation).finish()
            }
            Self::Saving { place } => f.debug_tuple("Saving").field(place).finish(),
            Self::Saved { file } => f.debug_tuple("Saved").field(file).finish(),
            Self::Damaged { file, kept, error } => {
                f.debug_tuple("Damaged").field(file).field(kept).field(error).finish()
            }
            Self::Failed { place, error } => {
                f.debug_tuple("Failed").field(place).field(error).finish()
            }
            Self::Finished { outcome, .. } => f.debug_tuple("Finished").field(outcome).finish(),
        }
    }
}
