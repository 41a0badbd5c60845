//! Curvature: from layer records to factors, and from factors to directions.
//!
//! Units, once and for all: a loss is a mean over N terms, so the output gradients `g` of a sweep
//! carry 1/N. Estimators keep sums over *terms* of d dᵀ with d = N g; the factor N is put back
//! when a (micro-)batch is finished ([`CurvatureSource::finish`]) and nowhere else. So two
//! micro-batches equal one batch.

pub(crate) mod block;
pub(crate) mod communicator;
pub(crate) mod estimate;
pub(crate) mod exact;
pub(crate) mod form;
pub(crate) mod reduce;
pub(crate) mod spectrum;

pub use crate::algebra::pattern::Pattern;
pub use block::block_inverse::{BlockInverse, columns};
pub use block::factor::Factor;
pub use block::kronecker::Kronecker;
pub use block::ledger::{Entry, Ledger};
pub use block::precondition::{DampedInverse, DampingRule, Half, damped_inverses, direction, pi};
pub use communicator::{Communicator, Local, mean_gradients};
pub use estimate::diagonals::{ConvGroups, ConvScale, DiagonalRule, NormFactor, NormInput};
pub use estimate::hessian_diagonal::{HessianDiagonal, Probe};
pub use estimate::kronecker_factors::{KroneckerFactors, Start as AverageStart};
pub use estimate::layer_rows::{LayerRows, LayerSeen, Seen};
pub use estimate::running::{
    Averaging, Degenerate, EmaInit, EmaRule, FactorOrder, MinMax, Normalisation,
};
pub use exact::exact_block::{ExactBlock, diagonal};
pub use exact::fishers::{Fishers, record_all};
pub use exact::products::{GaussNewton, Hessian};
pub use exact::recorded::RecordedBatch;
pub use form::{Form, Kind, Share};
pub use spectrum::conjugate_gradients::{Iteration, Solution, Stop, solve};
pub use spectrum::lanczos::{Density, Ritz, lanczos, spectral_density};
pub use spectrum::staleness::staleness;
pub use spectrum::trace::{Trace, hutch_plus_plus, hutchinson};

use engine::{Error, LayerObserver, Result, Rng};

/// Which Fisher matrix the factors approximate: whose labels the output gradients come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fisher {
    /// The true labels: the gradients of the loss as they pass by. No extra sweep.
    Empirical,
    /// Labels drawn from the model: `draws` sweeps from the outputs, averaged.
    Sampled {
        /// Labels per term.
        draws: usize,
    },
    /// The expectation over the model's labels: one sweep per column of a root of the output Hessian, and per
    /// place of a term in its example. Two terms of one example have independent labels, so no sweep has both.
    /// Outputs have the examples on their first axis: `[N, T, C]` for T terms each.
    Exact,
}

impl Fisher {
    /// Refuses no draws at all: nothing would ever be seen.
    pub(crate) fn check(self, op: &'static str) -> Result<()> {
        let draws = match self {
            Self::Sampled { draws } => draws,
            Self::Empirical | Self::Exact => 1,
        };
        crate::check::demand(op, "draws", draws as f64, "at least 1", draws > 0)
    }
}

/// Records → factors. Says which sweep it wants and when.
pub trait CurvatureSource: LayerObserver {
    /// Whose labels. By default the true ones.
    fn fisher(&self) -> Fisher {
        Fisher::Empirical
    }

    /// Whether this step's backward pass should be observed.
    fn due(&self) -> bool;

    /// The generator that sampled labels are drawn with. It is part of the optimizer's state.
    ///
    /// By default none: for estimators that want no label drawn.
    fn rng(&mut self) -> Option<&mut Rng> {
        None
    }

    /// The sweep number `index` of a (micro-)batch begins: 0 for the first one, in which every input
    /// is new; the others see the same inputs with other output gradients.
    fn begin_sweep(&mut self, _index: usize) {}

    /// One (micro-)batch is complete: its output gradients carried 1/`terms`. With `Sampled`, all
    /// draws have been observed, and their sums are to be divided by the number of draws.
    ///
    /// # Errors
    /// Linear algebra on the sums.
    fn finish(&mut self, terms: usize) -> Result<()>;

    /// The (micro-)batch being swept has failed half way: forgets it. Those that are complete stay.
    /// [`backward`](crate::backward()) calls this.
    ///
    /// By default nothing: for estimators that keep nothing between two sweeps.
    fn abandon(&mut self) {}

    /// Forgets every batch observed since the last step that was taken, and the labels drawn for them: the
    /// estimator is as if they had never been. What [`Optimizer::discard`](crate::Optimizer::discard) and
    /// every refused step call.
    ///
    /// By default nothing: for estimators that keep nothing between two sweeps.
    fn discard(&mut self) {}

    /// Several workers have finished a part of the batch each: adds up what they have, raw sums and
    /// counts, so that each of them holds the whole batch's. Before the step, and called by
    /// [`Optimizer::exchange`](crate::Optimizer::exchange).
    ///
    /// # Errors
    /// The communicator's; [`Error::Argument`] from an estimator that has nothing to add up.
    fn exchange(&mut self, communicator: &mut dyn Communicator) -> Result<()> {
        match communicator.workers() {
            0 | 1 => Ok(()),
            workers => Err(Error::Argument {
                op: "exchange",
                name: "workers",
                expected: "1: this estimator keeps the rows of its layers, not their sums",
                got: workers.to_string(),
            }),
        }
    }
}
