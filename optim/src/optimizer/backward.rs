//! The junction: the one place that knows which sweeps an optimizer wants.

use std::time::{Duration, Instant};

#[cfg(feature = "cuda")]
use engine::Replay;
use engine::{
    Device, Error, Gradients, LayerObserver, LayerRecord, Likelihood, ParamId, Result, Tape,
    Tensor, Var,
};

use crate::Optimizer;
use crate::curvature::exact::seeds::{Apart, exact_seeds, examples};
use crate::curvature::{CurvatureSource, Fisher};

/// What a backward pass brought.
#[derive(Debug)]
pub struct Pass {
    /// The mean loss: a scalar, in main memory.
    pub loss: Tensor,
    /// The gradients of the loss.
    pub gradients: Gradients,
    /// The time spent on curvature: extra sweeps, and reducing records to factors.
    pub curvature: Duration,
}

/// The loss and its gradients; feeds the optimizer's curvature estimator if it is due. The numbers on
/// the tape are freed on the way ([`Tape::backward_once`]).
///
/// What has been fed counts with the next step that is taken. A step that is refused forgets it; if you skip a
/// step yourself, call [`Optimizer::discard`].
///
/// # Errors
/// [`Error::NotFinite`] naming the first op with a NaN or an infinity when the loss is one; the tape
/// is whole then. Else when the outputs do not fit the loss, are not on the tape, or the estimator fails;
/// [`Error::NoKernel`] on a device that the optimizer does not run on. Nothing has been fed by a pass that fails:
/// the micro-batches before it stay.
pub fn backward<O: Optimizer + ?Sized>(
    tape: &Tape,
    outputs: &Var,
    loss: &dyn Likelihood,
    optimizer: &mut O,
) -> Result<Pass> {
    pass(tape, outputs, loss, optimizer, |nll, observer| tape.backward_once(nll, observer))
}

/// The same, and the numbers on the tape stay: for optimizers that go on to look at its curvature.
pub(crate) fn backward_keeping<O: Optimizer + ?Sized>(
    tape: &Tape,
    outputs: &Var,
    loss: &dyn Likelihood,
    optimizer: &mut O,
) -> Result<Pass> {
    pass(tape, outputs, loss, optimizer, |nll, observer| match observer {
        Some(observer) => tape.backward_observed(nll, observer),
        None => tape.backward(nll),
    })
}

fn pass<O: Optimizer + ?Sized>(
    tape: &Tape,
    outputs: &Var,
    loss: &dyn Likelihood,
    optimizer: &mut O,
    sweep: impl Fn(&Var, Option<&mut dyn LayerObserver>) -> Result<Gradients>,
) -> Result<Pass> {
    let done = feed(tape, outputs, loss, optimizer, sweep);
    settle(done, optimizer)
}

/// What was seen counts, or is forgotten if the pass has failed.
fn settle<T, O: Optimizer + ?Sized>(done: Result<T>, optimizer: &mut O) -> Result<T> {
    if done.is_err()
        && let Some(source) = optimizer.curvature()
    {
        source.abandon();
    }
    if let Some(estimator) = optimizer.hessian_diagonal() {
        if done.is_ok() { estimator.complete() } else { estimator.abandon() }
    }
    done
}

fn feed<O: Optimizer + ?Sized>(
    tape: &Tape,
    outputs: &Var,
    loss: &dyn Likelihood,
    optimizer: &mut O,
    sweep: impl Fn(&Var, Option<&mut dyn LayerObserver>) -> Result<Gradients>,
) -> Result<Pass> {
    refuse_elsewhere(optimizer, outputs)?;
    let nll = loss.nll(outputs)?;
    let value = nll.value().to_device(Device::Cpu)?;
    if !value.item()?.is_finite()
        && let Some(found) = tape.first_non_finite()?
    {
        return Err(found);
    }
    let mut curvature = Duration::ZERO;
    if let Some(estimator) = optimizer.hessian_diagonal().filter(|estimator| estimator.due()) {
        let start = Instant::now();
        estimator.observe(tape, outputs, &nll, loss)?;
        curvature = start.elapsed();
    }
    let gradients = match optimizer.curvature().filter(|source| source.due()) {
        None => sweep(&nll, None)?,
        Some(source) => {
            let gradients = match source.fisher() {
                Fisher::Empirical => {
                    source.begin_sweep(0);
                    let mut timed = Timed { source, spent: Duration::ZERO };
                    let gradients = sweep(&nll, Some(&mut timed))?;
                    curvature += timed.spent;
                    gradients
                }
                fisher => {
                    let start = Instant::now();
                    sweep_model_labels(fisher, tape, outputs, loss, source)?;
                    curvature += start.elapsed();
                    sweep(&nll, None)?
                }
            };
            let start = Instant::now();
            source.finish(loss.terms())?;
            curvature += start.elapsed();
            gradients
        }
    };
    Ok(Pass { loss: value, gradients, curvature })
}

/// Whether the optimizer's next pass may be the launch of a captured one ([`Replay`]), and if so, whether that
/// has to keep layer records. `None` when it wants more than one sweep, or to look at the tape.
#[cfg(feature = "cuda")]
pub fn replayable<O: Optimizer + ?Sized>(optimizer: &mut O) -> Option<bool> {
    let looks = optimizer.hessian_diagonal().is_some_and(|estimator| estimator.due());
    if looks || optimizer.needs_problem() {
        return None;
    }
    match optimizer.curvature().filter(|source| source.due()) {
        None => Some(false),
        Some(source) => (source.fisher() == Fisher::Empirical).then_some(true),
    }
}

/// What [`backward`] brings, from a captured pass that has been launched; feeds the optimizer's curvature
/// estimator if it is due. The loss is a mean over `terms`. `None`, and nothing has been fed, when it is not
/// finite: a pass on a tape will tell where. To be asked first: [`replayable`].
///
/// # Errors
/// The device's, and the estimator's own.
#[cfg(feature = "cuda")]
pub fn replayed<O: Optimizer + ?Sized>(
    replay: &Replay,
    terms: usize,
    optimizer: &mut O,
) -> Result<Option<Pass>> {
    let loss = replay.loss().to_device(Device::Cpu)?;
    if !loss.item()?.is_finite() {
        return Ok(None);
    }
    let start = Instant::now();
    let observed = match optimizer.curvature().filter(|source| source.due()) {
        None => Ok(()),
        Some(source) => {
            source.begin_sweep(0);
            replay.observe(source).and_then(|()| source.finish(terms))
        }
    };
    settle(observed, optimizer)?;
    let gradients = replay.gradients().clone();
    Ok(Some(Pass { loss, gradients, curvature: start.elapsed() }))
}

/// Refuses a device that the optimizer does not run on, before anything has been done there.
pub(crate) fn refuse_elsewhere<O: Optimizer + ?Sized>(optimizer: &O, outputs: &Var) -> Result<()> {
    let (op, device) = (optimizer.name(), outputs.device());
    if optimizer.runs_on(device) { Ok(()) } else { Err(Error::NoKernel { op, device }) }
}

/// The extra sweeps of the true Fisher, from the outputs down.
fn sweep_model_labels(
    fisher: Fisher,
    tape: &Tape,
    outputs: &Var,
    loss: &dyn Likelihood,
    source: &mut dyn CurvatureSource,
) -> Result<()> {
    let values = outputs.value();
    match fisher {
        Fisher::Empirical => {}
        Fisher::Sampled { draws } => {
            for draw in 0..draws {
                let rng = source.rng().ok_or_else(|| Error::Argument {
                    op: "backward",
                    name: "rng",
                    expected: "a generator, by a source that wants labels drawn",
                    got: "none".to_owned(),
                })?;
                let seed = loss.sampled_seed(&values, rng)?;
                source.begin_sweep(draw);
                tape.sweep(outputs, seed, source)?;
            }
        }
        Fisher::Exact => {
            let examples = examples(loss, outputs);
            for (index, seed) in exact_seeds(loss, &values, examples)?.enumerate() {
                source.begin_sweep(index);
                tape.sweep(outputs, seed?, &mut Apart { source: &mut *source, examples })?;
            }
        }
    }
    Ok(())
}

/// Passes records on and keeps the time.
struct Timed<'a> {
    source: &'a mut dyn CurvatureSource,
    spent: Duration,
}

impl LayerObserver for Timed<'_> {
    fn observe(&mut self, record: &LayerRecord) -> Result<()> {
        let start = Instant::now();
        let result = self.source.observe(record);
        self.spent += start.elapsed();
        result
    }

    fn unlayered(&mut self, param: ParamId, op: &'static str) -> Result<()> {
        self.source.unlayered(param, op)
    }
}
