//! One batch, swept once and kept: so that every estimator can look at the very same numbers.
//!
//! Training hands each record to one estimator and forgets it. To lay approximations side by side the
//! records of all sweeps are kept here and shown to one [`CurvatureSource`] after the other
//! ([`RecordedBatch::replay`]); what differs then is the approximation and nothing else.
//!
//! Its sweeps are those of training: for the exact Fisher one for each column and place ([`Fisher`]).

use std::collections::BTreeMap;

use engine::{Error, LayerObserver, LayerRecord, Likelihood, ParamId, Result, Rng, Tape, Var};

use super::seeds::exact_seeds;
use crate::curvature::{CurvatureSource, Fisher};

/// The layer records of a batch, sweep by sweep. It shares the tape's numbers and does not copy them.
///
/// A layer whose rows are those of the examples has the batch's number of them. A table of positions,
/// which all examples share, is told from one by its own number; where both are the same, it is not.
///
/// # Example
/// ```
/// use engine::{DType, Parameter, Rng, Tape, Tensor};
/// # use engine::{Likelihood, Result, Var};
/// # struct Half;
/// # impl Likelihood for Half {
/// #     fn terms(&self) -> usize { 2 }
/// #     fn nll(&self, y: &Var) -> Result<Var> { y.mul(y)?.sum_all()?.scale(0.25) }
/// #     fn sampled_seed(&self, y: &Tensor, rng: &mut Rng) -> Result<Tensor> {
/// #         Tensor::normal(*y.shape(), 0.0, 1.0, y.dtype(), rng).scale(0.5)
/// #     }
/// #     fn exact_seeds(&self, y: &Tensor) -> Result<Vec<Tensor>> {
/// #         Ok(vec![Tensor::full(*y.shape(), 0.5, y.dtype())])
/// #     }
/// # }
/// use alcyon_optim::Fisher;
/// use alcyon_optim::curvature::ExactBlock;
/// use alcyon_optim::curvature::RecordedBatch;
/// let weight = Parameter::new(Tensor::ones([1, 2], DType::F64));
/// let tape = Tape::new();
/// let x = tape.input(Tensor::from_slice(&[1.0_f64, 2.0, 3.0, 0.0], [2, 2])?);
/// let y = x.linear(&tape.bind(&weight), None)?; // the loss is ½ y², averaged over 2 examples
/// let batch = RecordedBatch::new(&tape, &y, &Half, 2, Fisher::Exact, &mut Rng::new(0))?;
/// let block = ExactBlock::new(&[&batch], &[&weight])?;
/// for (entry, expected) in block.matrix().iter().zip([5.0, 1.0, 1.0, 2.0]) {
///     assert!((entry - expected).abs() < 1e-12); // the mean of x xᵀ
/// }
/// # Ok::<(), engine::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct RecordedBatch {
    fisher: Fisher,
    examples: usize,
    terms: usize,
    sweeps: Vec<Vec<LayerRecord>>,
    unlayered: BTreeMap<ParamId, &'static str>,
}

impl RecordedBatch {
    /// Sweeps a tape from the outputs as often as the Fisher matrix asks for.
    ///
    /// # Shape
    /// outputs: the loss's terms in order, those of one example together; `examples` is the first axis
    /// of the model's input
    ///
    /// # Errors
    /// [`Error::Argument`] when the terms are not the same number for each example; else as
    /// [`Tape::sweep`] and the loss.
    pub fn new(
        tape: &Tape,
        outputs: &Var,
        loss: &dyn Likelihood,
        examples: usize,
        fisher: Fisher,
        rng: &mut Rng,
    ) -> Result<Self> {
        let terms = loss.terms();
        if examples == 0 || !terms.is_multiple_of(examples) {
            return Err(Error::Argument {
                op: "recorded batch",
                name: "examples",
                expected: "a divisor of the loss's terms",
                got: format!("{examples} for {terms} terms"),
            });
        }
        let (sweeps, unlayered) = (Vec::new(), BTreeMap::new());
        let mut batch = Self { fisher, examples, terms, sweeps, unlayered };
        let values = outputs.value();
        match fisher {
            Fisher::Empirical => {
                let nll = loss.nll(outputs)?;
                tape.backward_observed(&nll, batch.next_sweep())?;
            }
            Fisher::Sampled { draws } => {
                for _ in 0..draws.max(1) {
                    let seed = loss.sampled_seed(&values, rng)?;
                    tape.sweep(outputs, seed, batch.next_sweep())?;
                }
            }
            Fisher::Exact => {
                for seed in exact_seeds(loss, &values, examples)? {
                    tape.sweep(outputs, seed?, batch.next_sweep())?;
                }
            }
        }
        Ok(batch)
    }

    /// From records that have been come by in another way.
    pub(in crate::curvature) const fn of(
        fisher: Fisher,
        (examples, terms): (usize, usize),
        sweeps: Vec<Vec<LayerRecord>>,
        unlayered: BTreeMap<ParamId, &'static str>,
    ) -> Self {
        Self { fisher, examples, terms, sweeps, unlayered }
    }

    fn next_sweep(&mut self) -> &mut Self {
        self.sweeps.push(Vec::new());
        self
    }

    /// Shows the batch to an estimator, as if it were being swept now.
    ///
    /// # Errors
    /// [`Error::Argument`] when the estimator wants other labels; its own.
    pub fn replay(&self, source: &mut dyn CurvatureSource) -> Result<()> {
        if source.fisher() != self.fisher {
            return Err(Error::Argument {
                op: "replay",
                name: "fisher",
                expected: "the labels that the estimator asks for",
                got: format!("{:?} for {:?}", self.fisher, source.fisher()),
            });
        }
        for (index, sweep) in self.sweeps.iter().enumerate() {
            source.begin_sweep(index);
            sweep.iter().try_for_each(|record| source.observe(record))?;
        }
        self.unlayered.iter().try_for_each(|(&param, op)| source.unlayered(param, op))?;
        source.finish(self.terms)
    }

    /// Whose labels.
    #[must_use]
    pub const fn fisher(&self) -> Fisher {
        self.fisher
    }

    /// The examples.
    #[must_use]
    pub const fn examples(&self) -> usize {
        self.examples
    }

    /// N, the terms of the mean loss.
    #[must_use]
    pub const fn terms(&self) -> usize {
        self.terms
    }

    /// The records of each sweep, from the outputs to the inputs.
    #[must_use]
    pub fn sweeps(&self) -> &[Vec<LayerRecord>] {
        &self.sweeps
    }

    /// The op outside layers that uses a parameter, if there is one.
    #[must_use]
    pub fn unlayered_use(&self, param: ParamId) -> Option<&'static str> {
        self.unlayered.get(&param).copied()
    }

    /// What brings d = N g, so that Σ d dᵀ over rows and sweeps is N times the Fisher matrix: N, and
    /// 1/√K for K draws.
    #[must_use]
    pub(in crate::curvature) fn scale(&self) -> f64 {
        let draws = match self.fisher {
            Fisher::Sampled { draws } => draws.max(1),
            Fisher::Empirical | Fisher::Exact => 1,
        };
        self.terms as f64 / (draws as f64).sqrt()
    }
}

impl LayerObserver for RecordedBatch {
    fn observe(&mut self, record: &LayerRecord) -> Result<()> {
        match self.sweeps.last_mut() {
            Some(sweep) => sweep.observe(record),
            None => Ok(()),
        }
    }

    fn unlayered(&mut self, param: ParamId, op: &'static str) -> Result<()> {
        self.unlayered.insert(param, op);
        Ok(())
    }
}
