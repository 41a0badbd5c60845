//! What a run leaves behind: plain numbers, as they go into `results.json`.

use serde::Serialize;

/// One optimizer, one seed.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Run {
    pub(crate) optimizer: String,
    pub(crate) rate: f64,
    pub(crate) seed: u64,
    /// One entry a step.
    pub(crate) steps: Vec<Step>,
    /// One entry an epoch.
    pub(crate) epochs: Vec<Epoch>,
    /// After the last epoch: mean over all training rows, in evaluation mode.
    pub(crate) train_loss: Option<f64>,
    pub(crate) cost: Cost,
    /// Bytes that the optimizer keeps between steps.
    pub(crate) state_bytes: usize,
    pub(crate) ending: Ending,
}

impl Run {
    /// A run that has not made a step.
    pub(crate) fn new(optimizer: &str, rate: f64, seed: u64) -> Self {
        Self {
            optimizer: optimizer.to_owned(),
            rate,
            seed,
            steps: Vec::new(),
            epochs: Vec::new(),
            train_loss: None,
            cost: Cost::default(),
            state_bytes: 0,
            ending: Ending::Finished,
        }
    }

    /// Whether it ended with numbers that are not finite.
    pub(crate) const fn diverged(&self) -> bool {
        matches!(self.ending, Ending::Diverged { .. })
    }
}

/// One step.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Step {
    /// The batch's loss before the step.
    pub(crate) loss: f64,
    /// Training time since the first step, evaluation not counted.
    pub(crate) seconds: f64,
}

/// The test rows after an epoch, in evaluation mode.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Epoch {
    pub(crate) epoch: usize,
    pub(crate) test_loss: f64,
    /// In 0..1.
    pub(crate) test_accuracy: f64,
}

/// Seconds over a whole run, by phase.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Cost {
    /// Forward and backward.
    pub(crate) pass: f64,
    /// Curvature: extra sweeps, and reducing records to factors.
    pub(crate) factors: f64,
    /// The update.
    pub(crate) step: f64,
}

impl Cost {
    /// Adds another.
    pub(crate) fn add(&mut self, other: Self) {
        self.pass += other.pass;
        self.factors += other.factors;
        self.step += other.step;
    }

    /// All three.
    pub(crate) fn total(&self) -> f64 {
        self.pass + self.factors + self.step
    }
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "how")]
pub(crate) enum Ending {
    /// All epochs.
    Finished,
    /// The budget of `--seconds`.
    OutOfTime {
        /// Steps made.
        step: usize,
    },
    /// The loss was not finite, or the optimizer gave up.
    Diverged {
        /// The step, counted from 1.
        step: usize,
        /// What was found.
        cause: String,
    },
}

/// A mean and what it is worth.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) mean: f64,
    /// Sample standard deviation; `None` for a single value.
    pub(crate) deviation: Option<f64>,
    pub(crate) count: usize,
}

impl Spread {
    /// Of some values; `None` of none.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let count = values.len();
        let mean = values.iter().sum::<f64>() / count as f64;
        let squares: f64 = values.iter().map(|x| (x - mean).powi(2)).sum();
        let deviation = (count > 1).then(|| (squares / (count - 1) as f64).sqrt());
        (count > 0).then_some(Self { mean, deviation, count })
    }
}

/// All seeds of one optimizer.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Summary {
    pub(crate) optimizer: String,
    pub(crate) rate: f64,
    /// Of the seeds that ended with a finite loss.
    pub(crate) test_accuracy: Option<Spread>,
    pub(crate) test_loss: Option<Spread>,
    pub(crate) train_loss: Option<Spread>,
    /// Milliseconds a step.
    pub(crate) per_step: Cost,
    pub(crate) state_bytes: usize,
    /// `seed 0 diverged at step 17`, …
    pub(crate) remarks: Vec<String>,
}

impl Summary {
    /// Of the runs of one optimizer at one rate.
    pub(crate) fn of(runs: &[&Run]) -> Self {
        let first = runs[0];
        let whole: Vec<_> = runs.iter().filter(|r| !r.diverged()).collect();
        let last = |f: fn(&Epoch) -> f64| -> Vec<f64> {
            whole.iter().filter_map(|r| r.epochs.last()).map(f).collect()
        };
        let steps = runs.iter().map(|r| r.steps.len()).sum::<usize>().max(1) as f64;
        let per_step =
            |f: fn(&Cost) -> f64| runs.iter().map(|r| f(&r.cost)).sum::<f64>() / steps * 1e3;
        let train: Vec<f64> = whole.iter().filter_map(|r| r.train_loss).collect();
        Self {
            optimizer: first.optimizer.clone(),
            rate: first.rate,
            test_accuracy: Spread::of(&last(|e| e.test_accuracy)),
            test_loss: Spread::of(&last(|e| e.test_loss)),
            train_loss: Spread::of(&train),
            per_step: Cost {
                pass: per_step(|c| c.pass),
                factors: per_step(|c| c.factors),
                step: per_step(|c| c.step),
            },
            state_bytes: first.state_bytes,
            remarks: runs.iter().filter_map(|r| remark(r)).collect(),
        }
    }
}

fn remark(run: &Run) -> Option<String> {
    match &run.ending {
        Ending::Finished => None,
        Ending::OutOfTime { step } => Some(format!("seed {}: {step} steps in time", run.seed)),
        Ending::Diverged { step, .. } => Some(format!("seed {} diverged at step {step}", run.seed)),
    }
}

/// Groups runs by optimizer, in the order in which they first appear.
pub(crate) fn by_optimizer(runs: &[Run]) -> Vec<Vec<&Run>> {
    let mut groups: Vec<Vec<&Run>> = Vec::new();
    for run in runs {
        match groups.iter_mut().find(|g| g[0].optimizer == run.optimizer) {
            Some(group) => group.push(run),
            None => groups.push(vec![run]),
        }
    }
    groups
}
