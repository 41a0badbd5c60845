//! One run: the training loop, with a clock on each phase.

use std::time::Instant;

use alcyon::nn::data::{Batch, Dataset, Loader};
use alcyon::nn::layer::Sequential;
use alcyon::nn::loss::CrossEntropy;
use alcyon::nn::{Module, metric};
use alcyon::optim;
use alcyon::prelude::*;

use crate::outcome::{Cost, Ending, Epoch, Run, Step};
use crate::progress::Progress;
use crate::protocol::{Protocol, Task};

/// Streams of a seed: what each is drawn for.
const WEIGHTS: u64 = 0;
const ORDER: u64 = 1;

/// Rows evaluated at once.
const EVALUATED: usize = 1000;

/// What all runs of a comparison share.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    pub(crate) protocol: &'a Protocol,
    pub(crate) task: &'a Task,
    pub(crate) epochs: usize,
    pub(crate) batch_size: usize,
    /// The budget of training time.
    pub(crate) seconds: Option<f64>,
    pub(crate) progress: &'a Progress,
}

/// Who runs: a name, a rate, a seed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry<'a> {
    pub(crate) name: &'a str,
    pub(crate) rate: f64,
    pub(crate) seed: u64,
}

/// One step of training, or why there is none.
enum Taken {
    Step { loss: f64, cost: Cost },
    Lost(String),
}

impl Plan<'_> {
    /// Steps of a whole run.
    pub(crate) fn steps(&self) -> usize {
        self.epochs * self.task.train.len().div_ceil(self.batch_size)
    }
}

/// Trains one entry from its seed's start.
///
/// # Errors
/// Whatever the model, the data or the optimizer finds, but for numbers that are not finite: those
/// end the run as [`Ending::Diverged`].
pub(crate) fn train(
    plan: &Plan<'_>,
    optimizer: &mut dyn Optimizer,
    entry: Entry<'_>,
) -> Result<(Run, Coverage)> {
    let mut model = plan.protocol.build(&mut Rng::stream(entry.seed, WEIGHTS));
    let mut order = Rng::stream(entry.seed, ORDER);
    let loader = Loader::new(&plan.task.train, plan.batch_size)?;
    let mut run = Run::new(entry.name, entry.rate, entry.seed);
    let mut coverage = Coverage::default();
    'training: for epoch in 1..=plan.epochs {
        for batch in loader.epoch(&mut order) {
            let done = run.steps.len();
            optimizer.set_rate(entry.rate * plan.protocol.share(done, plan.steps()));
            match step(&mut model, optimizer, batch?, done as u64)? {
                Taken::Lost(cause) => {
                    run.ending = Ending::Diverged { step: done + 1, cause };
                    break 'training;
                }
                Taken::Step { loss, cost } => {
                    run.cost.add(cost);
                    run.steps.push(Step { loss, seconds: run.cost.total() });
                }
            }
            if done == 0 {
                coverage = covered(optimizer, &model)?;
                run.state_bytes = coverage.state_bytes();
            }
            plan.progress.step();
            if plan.seconds.is_some_and(|budget| run.cost.total() >= budget) {
                run.ending = Ending::OutOfTime { step: done + 1 };
                break;
            }
        }
        let (test_loss, test_accuracy) = evaluate(&model, &plan.task.test)?;
        run.epochs.push(Epoch { epoch, test_loss, test_accuracy });
        plan.progress.epoch(&run);
        if run.ending != Ending::Finished {
            break;
        }
    }
    run.judge(evaluate(&model, &plan.task.train)?.0);
    plan.progress.run(&run, plan.steps() - run.steps.len());
    Ok((run, coverage))
}

/// Forward, backward, update.
fn step(
    model: &mut Sequential,
    optimizer: &mut dyn Optimizer,
    batch: Batch,
    number: u64,
) -> Result<Taken> {
    let start = Instant::now();
    let tape = Tape::training(number);
    let logits = model.forward(&tape.input(batch.inputs))?;
    let loss = CrossEntropy::new(&batch.targets);
    let pass = match optim::backward(&tape, &logits, &loss, optimizer) {
        Ok(pass) if pass.loss.item()?.is_finite() => pass,
        Ok(_) => return Ok(Taken::Lost(first_non_finite(&tape, "the loss is not finite")?)),
        Err(error) => return lost(&tape, error),
    };
    model.commit(tape.staged())?;
    drop((logits, tape));
    let passed = start.elapsed();

    let start = Instant::now();
    match optimizer.step(model, &pass.gradients) {
        Err(error @ (Error::NotFinite { .. } | Error::Linalg { .. })) => {
            return Ok(Taken::Lost(error.to_string()));
        }
        done => done?,
    }
    let cost = Cost {
        pass: (passed - pass.curvature).as_secs_f64(),
        factors: pass.curvature.as_secs_f64(),
        step: start.elapsed().as_secs_f64(),
    };
    Ok(Taken::Step { loss: pass.loss.item()?, cost })
}

/// Numbers that are not finite lose the run; every other error is one.
fn lost(tape: &Tape, error: Error) -> Result<Taken> {
    match error {
        Error::NotFinite { .. } | Error::Linalg { .. } => {
            Ok(Taken::Lost(first_non_finite(tape, &error.to_string())?))
        }
        other => Err(other),
    }
}

/// The first record with a value that is not finite, or what was noticed.
fn first_non_finite(tape: &Tape, noticed: &str) -> Result<String> {
    Ok(tape.first_non_finite()?.map_or_else(|| noticed.to_owned(), |found| found.to_string()))
}

/// What the optimizer does for each parameter: nothing may be left out.
fn covered(optimizer: &dyn Optimizer, model: &Sequential) -> Result<Coverage> {
    let coverage = optimizer.coverage(model);
    for (path, parameter) in model.parameters() {
        if parameter.is_trainable() && !coverage.lines.iter().any(|line| line.param == path) {
            return Err(Error::Uncovered { param: path, op: optimizer.name() });
        }
    }
    Ok(coverage)
}

/// Mean loss and accuracy over all rows, in evaluation mode.
fn evaluate(model: &Sequential, rows: &Dataset) -> Result<(f64, f64)> {
    let (mut loss, mut right) = (0.0, 0);
    for batch in Loader::new(rows, EVALUATED)?.in_order() {
        let batch = batch?;
        let logits = model.predict(&batch.inputs)?;
        let mean = logits.cross_entropy(&batch.targets)?.item()?;
        loss += mean * batch.targets.numel() as f64;
        right += metric::correct(&logits, &batch.targets)?;
    }
    let n = rows.len() as f64;
    Ok((loss / n, right as f64 / n))
}
