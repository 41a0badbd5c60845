//! Several Fisher matrices of one batch from the same sweeps: empirical, sampled and exact.
//!
//! A sweep is linear in its seed. Where a model treats the examples of a batch apart, what comes back to a
//! layer for any seed is therefore a combination of what comes back for unit seeds, example by example:
//!
//! ```text
//! g[n] = Σ_c seed[n, c] g_c[n]         g_c: the sweep with a 1 at output c of every example
//! ```
//! So as many sweeps as there are outputs serve the true labels, any number of draws, and the exact Fisher
//! matrix together; one after the other they take 1 + K + C. The sums over c cost as many operations as the layer
//! has outputs, far less than a sweep.
//!
//! It does not hold for batch norm, whose examples see each other, nor where a layer's rows are not those
//! of the examples (a table of positions that all share), nor for several terms in one example. These are
//! noticed in the records, and then each matrix is swept for by itself ([`RecordedBatch::new`]). A mixing of
//! examples in an op without a layer record is not noticed: batch norm without scale and shift.

use std::collections::BTreeMap;

use engine::{
    Layer, LayerObserver, LayerRecord, Likelihood, Norm, ParamId, Result, Rng, Tape, Tensor, Var,
};

use super::recorded::RecordedBatch;
use crate::curvature::Fisher;

/// The batches, in the order asked for, and what they cost.
#[derive(Debug, Clone)]
pub struct Fishers {
    /// One for each of the labels wanted.
    pub batches: Vec<RecordedBatch>,
    /// The sweeps that it took.
    pub sweeps: usize,
}

/// Records a batch under several labels, from shared sweeps where these are fewer.
///
/// # Shape
/// as in [`RecordedBatch::new`]; sweeps are shared for outputs `[examples, C]`
///
/// # Errors
/// As [`RecordedBatch::new`].
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
/// use alcyon_optim::curvature::record_all;
/// let weight = Parameter::new(Tensor::ones([1, 2], DType::F64));
/// let tape = Tape::new();
/// let x = tape.input(Tensor::from_slice(&[1.0_f64, 2.0, 3.0, 0.0], [2, 2])?);
/// let y = x.linear(&tape.bind(&weight), None)?; // the loss is ½ y², averaged over 2 examples
/// let wanted = [Fisher::Empirical, Fisher::Sampled { draws: 8 }, Fisher::Exact];
/// let all = record_all(&tape, &y, &Half, 2, &wanted, &mut Rng::new(0))?;
/// assert_eq!((all.batches.len(), all.sweeps), (3, 1)); // one output, one sweep
/// # Ok::<(), engine::Error>(())
/// ```
pub fn record_all(
    tape: &Tape,
    outputs: &Var,
    loss: &dyn Likelihood,
    examples: usize,
    wanted: &[Fisher],
    rng: &mut Rng,
) -> Result<Fishers> {
    let values = outputs.value();
    let mut alone = 0;
    for fisher in wanted {
        alone += match fisher {
            Fisher::Empirical => 1,
            Fisher::Sampled { draws } => (*draws).max(1),
            Fisher::Exact => loss.exact_seeds(&values)?.len() * (loss.terms() / examples.max(1)),
        };
    }
    let mut tried = 0;
    let shape = *values.shape();
    let plain = shape.rank() == 2 && shape[0] == examples && loss.terms() == examples;
    if plain && shape[1] < alone {
        let mut units = Units::default();
        for column in 0..shape[1] {
            let here = |i: usize| if i % shape[1] == column { 1.0 } else { 0.0 };
            units.sweeps.push(Vec::new());
            tape.sweep(outputs, Tensor::from_fn(shape, values.dtype(), here), &mut units)?;
            tried += 1;
            if !units.sweeps[column].iter().all(|record| is_apart(record, examples)) {
                break;
            }
        }
        if tried == shape[1] && units.is_aligned() {
            let batch = |fisher: &Fisher| units.batch(&values, loss, *fisher, rng);
            let batches = wanted.iter().map(batch).collect::<Result<_>>()?;
            return Ok(Fishers { batches, sweeps: tried });
        }
    }
    let batch = |fisher: &Fisher| RecordedBatch::new(tape, outputs, loss, examples, *fisher, rng);
    let batches = wanted.iter().map(batch).collect::<Result<_>>()?;
    Ok(Fishers { batches, sweeps: tried + alone })
}

/// Whether what a layer's rows say of one example has come from that example alone.
fn is_apart(record: &LayerRecord, examples: usize) -> bool {
    let rows = record.output_grad.shape().first() == Some(&examples);
    rows && !matches!(record.layer, Layer::ScaleShift(Norm::Batch))
}

/// The sweeps of unit seeds.
#[derive(Debug, Default)]
struct Units {
    sweeps: Vec<Vec<LayerRecord>>,
    unlayered: BTreeMap<ParamId, &'static str>,
}

impl Units {
    /// Whether every sweep has seen the same layers in the same order.
    fn is_aligned(&self) -> bool {
        let weights = |sweep: &Vec<LayerRecord>| sweep.iter().map(|r| r.weight).collect::<Vec<_>>();
        self.sweeps.windows(2).all(|pair| weights(&pair[0]) == weights(&pair[1]))
    }

    fn batch(
        &self,
        values: &Tensor,
        loss: &dyn Likelihood,
        fisher: Fisher,
        rng: &mut Rng,
    ) -> Result<RecordedBatch> {
        let seeds = match fisher {
            Fisher::Empirical => {
                let tape = Tape::new();
                let outputs = tape.watch(values.clone());
                let gradients = tape.backward(&loss.nll(&outputs)?)?;
                gradients.of_var(&outputs).cloned().into_iter().collect()
            }
            Fisher::Sampled { draws } => {
                let draw = |_| loss.sampled_seed(values, rng);
                (0..draws.max(1)).map(draw).collect::<Result<Vec<_>>>()?
            }
            Fisher::Exact => loss.exact_seeds(values)?,
        };
        let sweeps = seeds.iter().map(|seed| self.combined(seed)).collect::<Result<_>>()?;
        let examples = values.shape()[0];
        Ok(RecordedBatch::of(fisher, (examples, loss.terms()), sweeps, self.unlayered.clone()))
    }

    /// The records of a seed.
    fn combined(&self, seed: &Tensor) -> Result<Vec<LayerRecord>> {
        let Some(first) = self.sweeps.first() else { return Ok(Vec::new()) };
        let combined = |(at, record): (usize, &LayerRecord)| -> Result<LayerRecord> {
            let rank = record.output_grad.rank();
            let mut sum: Option<Tensor> = None;
            for (column, sweep) in self.sweeps.iter().enumerate() {
                // [N, 1, …, 1]
                let mut sides = vec![1; rank];
                sides[0] = seed.shape()[0];
                let weight = seed.narrow(1, column, 1)?.reshape(engine::Shape::new(&sides)?)?;
                let part = sweep[at].output_grad.mul(&weight)?;
                sum = Some(match sum {
                    Some(sum) => sum.add(&part)?,
                    None => part,
                });
            }
            let output_grad = sum.unwrap_or_else(|| record.output_grad.clone());
            Ok(LayerRecord { output_grad, ..record.clone() })
        };
        first.iter().enumerate().map(combined).collect()
    }
}

impl LayerObserver for Units {
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
