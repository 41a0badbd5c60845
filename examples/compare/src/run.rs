//! One run: the training loop, with a clock on each phase.

use std::time::Instant;

use alcyon::nn::data::{Batch, Dataset, Loader};
use alcyon::nn::{CrossEntropy, Module, Sequential, metric};
use alcyon::optim;
use alcyon::prelude::*;

use crate::outcome::{Cost, Ending, Epoch, Run, Step};
use crate::progress::Progress;
use crate::protocol::{Annealing, Protocol, Task};

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
    pub(crate) batch_size: usize,
    pub(crate) budget: Budget,
    /// Where the models and their batches are.
    pub(crate) device: Device,
    pub(crate) progress: &'a Progress,
}

/// What a run may use: whichever is used up first ends it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// Passes over the training rows.
    pub(crate) epochs: Option<usize>,
    /// Training time; evaluation is not counted.
    pub(crate) seconds: Option<f64>,
}

impl Budget {
    /// How much of it a run has used, in 0..1: what the rate's schedule and the progress bar go by.
    fn used(self, run: &Run, steps_per_epoch: usize) -> f64 {
        let of_epochs = |epochs| run.steps.len() as f64 / (epochs * steps_per_epoch) as f64;
        let of_seconds = |seconds| run.cost.total() / seconds;
        let (epochs, seconds) = (self.epochs.map(of_epochs), self.seconds.map(of_seconds));
        epochs.unwrap_or(0.0).max(seconds.unwrap_or(0.0)).min(1.0)
    }
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
    /// What is about to be done, in one line.
    pub(crate) fn describe(&self) -> String {
        let rate = match self.protocol.annealing {
            Annealing::Constant => "constant rates",
            Annealing::Cosine => "rates falling to 0 along a cosine",
        };
        let epochs = self.budget.epochs.map(|epochs| {
            let steps = self.steps_per_epoch();
            format!("{epochs} epochs of {steps} steps")
        });
        let seconds = self.budget.seconds.map(|s| format!("{s} s of training"));
        format!(
            "{}: {} rows to train on, {} to be judged on; {}, batches of {}; {rate}.",
            self.protocol.title,
            self.task.train.len(),
            self.task.test.len(),
            epochs.into_iter().chain(seconds).collect::<Vec<_>>().join(" or "),
            self.batch_size,
        )
    }

    fn steps_per_epoch(&self) -> usize {
        self.task.train.len().div_ceil(self.batch_size)
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
    model.to_device(plan.device)?;
    let mut order = Rng::stream(entry.seed, ORDER);
    let loader = Loader::new(&plan.task.train, plan.batch_size)?.on(plan.device);
    let mut run = Run::new(entry.name, entry.rate, entry.seed);
    let mut coverage = Coverage::default();
    let used = |run: &Run| plan.budget.used(run, plan.steps_per_epoch());
    while run.ending == Ending::Finished && used(&run) < 1.0 {
        for batch in loader.epoch(&mut order) {
            let done = run.steps.len();
            optimizer.set_rate(entry.rate * plan.protocol.annealing.share(used(&run)));
            match step(&mut model, optimizer, batch?, done as u64, plan.device)? {
                Taken::Lost(cause) => run.ending = Ending::Diverged { step: done + 1, cause },
                Taken::Step { loss, cost } => {
                    run.cost.add(cost);
                    run.steps.push(Step { loss, seconds: run.cost.total() });
                    plan.progress.step(used(&run));
                }
            }
            if done == 0 {
                coverage = covered(optimizer, &model)?;
                run.state_bytes = coverage.state_bytes();
            }
            if plan.budget.seconds.is_some_and(|seconds| run.cost.total() >= seconds) {
                run.ending = Ending::OutOfTime { step: done + 1 };
            }
            if run.ending != Ending::Finished {
                break;
            }
        }
        if !run.diverged() {
            judge(&mut run, evaluate(&model, &plan.task.test, plan.device)?);
            plan.progress.epoch(&run);
        }
    }
    let (train_loss, _) = evaluate(&model, &plan.task.train, plan.device)?;
    run.train_loss = Some(train_loss).filter(|loss| loss.is_finite());
    plan.progress.run(&run);
    Ok((run, coverage))
}

/// Notes an epoch's test loss and accuracy. A last step may have lost the parameters.
fn judge(run: &mut Run, (test_loss, test_accuracy): (f64, f64)) {
    if test_loss.is_finite() {
        let epoch = run.epochs.len() + 1;
        run.epochs.push(Epoch { epoch, test_loss, test_accuracy });
    } else {
        let cause = "the test loss is not finite".to_owned();
        run.ending = Ending::Diverged { step: run.steps.len(), cause };
    }
}

/// Forward, backward, update.
fn step(
    model: &mut Sequential,
    optimizer: &mut dyn Optimizer,
    batch: Batch,
    number: u64,
    device: Device,
) -> Result<Taken> {
    let start = Instant::now();
    let tape = Tape::training(number);
    let logits = model.forward(&tape.input(batch.inputs))?;
    let loss = CrossEntropy::new(&batch.targets);
    let pass = match optim::backward(&tape, &logits, &loss, optimizer) {
        Err(error @ (Error::NotFinite { .. } | Error::Linalg { .. })) => {
            return Ok(Taken::Lost(error.to_string()));
        }
        done => done?,
    };
    model.commit(tape.staged())?;
    drop((logits, tape));
    device.synchronize()?; // What is queued is not yet done.
    let passed = start.elapsed();

    let start = Instant::now();
    match optimizer.step(model, &pass.gradients) {
        Err(error @ (Error::NotFinite { .. } | Error::Linalg { .. })) => {
            return Ok(Taken::Lost(error.to_string()));
        }
        done => done?,
    }
    device.synchronize()?;
    let cost = Cost {
        pass: (passed - pass.curvature).as_secs_f64(),
        factors: pass.curvature.as_secs_f64(),
        step: start.elapsed().as_secs_f64(),
    };
    Ok(Taken::Step { loss: pass.loss.item()?, cost })
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
fn evaluate(model: &Sequential, rows: &Dataset, device: Device) -> Result<(f64, f64)> {
    let (mut loss, mut right) = (0.0, 0);
    for part in Loader::new(rows, EVALUATED)?.on(device).in_order() {
        let part = part?;
        let logits = model.predict(&part.inputs)?;
        loss += logits.cross_entropy(&part.targets)?.item()? * part.len() as f64;
        right += metric::correct(&logits, &part.targets)?;
    }
    let n = rows.len() as f64;
    Ok((loss / n, right as f64 / n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_used_up_by_whichever_of_epochs_and_seconds_is_further_along() {
        let mut run = Run::new("sgd", 0.1, 0);
        run.steps = vec![Step { loss: 1.0, seconds: 0.0 }; 5];
        run.cost = Cost { pass: 1.0, factors: 0.5, step: 0.5 };
        let used = |epochs, seconds| Budget { epochs, seconds }.used(&run, 10);
        assert_eq!(used(Some(2), None), 0.25);
        assert_eq!(used(None, Some(4.0)), 0.5);
        assert_eq!(used(Some(2), Some(4.0)), 0.5);
        assert_eq!(used(Some(1), Some(40.0)), 0.5);
        assert_eq!(used(None, Some(1.0)), 1.0);
    }
}
