//! The evaluation that judged a step, kept for the next one: where the same batch comes again, that is the point where
//! it begins.
//!
//! Only batches that have come twice already are expected again: of others nothing is held between two steps. Nor of
//! models with buffers, whose new values follow from those that were there at the evaluation.

use engine::Result;

use crate::algebra::flat;
use crate::optimizer::problem::{Evaluation, Problem};

/// What is known of the batches of the steps.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// The last batch.
    number: Option<u64>,
    /// Whether the one before was the same.
    again: bool,
    /// Its evaluation at these parameters.
    kept: Option<(Vec<f64>, Evaluation)>,
}

impl Ahead {
    /// A step begins: its evaluation, the one that was kept or a new one.
    pub(super) fn begin(&mut self, problem: &dyn Problem) -> Result<Evaluation> {
        self.again = problem.number().is_some() && problem.number() == self.number;
        self.number = problem.number();
        let kept = self.kept.take().filter(|_| self.again);
        match kept {
            Some((theta, evaluation)) if theta == flat::values(problem.model())? => Ok(evaluation),
            _ => Evaluation::of(problem),
        }
    }

    /// Keeps the evaluation at the point where the step has ended, if the batch is expected again.
    pub(super) fn keep(&mut self, problem: &dyn Problem, evaluation: Evaluation) -> Result<()> {
        if self.again && problem.model().buffers().is_empty() {
            self.kept = Some((flat::values(problem.model())?, evaluation));
        }
        Ok(())
    }

    /// Forgets the evaluation.
    pub(super) fn clear(&mut self) {
        self.kept = None;
    }
}
