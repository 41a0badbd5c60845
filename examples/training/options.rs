//! What all training programs can be told.

use std::path::PathBuf;

use alcyon::optim::Schedule;
use alcyon::prelude::*;
use alcyon::train::{Budget, Every, Pace, Plan, Precision, Snapshots};
use clap::{Args, ValueEnum};

/// The rate's course over the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Course {
    /// The same all the time.
    Constant,
    /// Down to 0 along half a cosine.
    Cosine,
    /// Down to 0 along a straight line.
    Linear,
}

#[derive(Debug, Clone, Args)]
pub(crate) struct Options {
    /// The optimizer; a wrong name lists all of them.
    #[arg(long, value_name = "NAME")]
    pub(crate) optimizer: Option<String>,

    /// Its learning rate at the top of the schedule [default: the optimizer's own].
    #[arg(long, value_name = "X")]
    pub(crate) rate: Option<f64>,

    /// The rate's course over the budget, whatever the budget is in.
    #[arg(long, value_enum, default_value_t = Course::Cosine)]
    pub(crate) schedule: Course,

    /// The share of the budget in which the rate rises from 0 first, 0 to 1.
    #[arg(long, value_name = "SHARE", default_value_t = 0.05)]
    pub(crate) warm_up: f64,

    /// Stop after so many passes over the training data.
    #[arg(long, value_name = "N")]
    pub(crate) epochs: Option<u64>,

    /// Stop after so many steps.
    #[arg(long, value_name = "N")]
    pub(crate) steps: Option<u64>,

    /// Stop after so many minutes of training; evaluations and snapshots are not counted. This is the
    /// AdaFisher paper's wall-clock protocol.
    #[arg(long, value_name = "M")]
    pub(crate) minutes: Option<f64>,

    /// Time the first N steps only, and then fix the number of steps that fills --minutes: what else the
    /// machine does later no longer counts.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) calibrate: u64,

    /// Examples in a batch [default: the task's].
    #[arg(long, value_name = "B")]
    pub(crate) batch_size: Option<usize>,

    /// Batches for one step: their gradients and curvature are averaged.
    #[arg(long, value_name = "K", default_value_t = 1)]
    pub(crate) accumulate: usize,

    /// Scale gradients down to this norm.
    #[arg(long, value_name = "NORM")]
    pub(crate) clip: Option<f64>,

    /// What products are computed in: f32, bf16, or f16 with a loss scale. Parameters stay f32.
    #[arg(long, value_name = "TYPE", default_value_t = Precision::F32)]
    pub(crate) precision: Precision,

    /// Evaluate with an average of the weights that decays by this factor a step, say 0.999.
    #[arg(long, value_name = "DECAY")]
    pub(crate) average: Option<f64>,

    /// Stop when so many evaluations in a row bring nothing better.
    #[arg(long, value_name = "N")]
    pub(crate) patience: Option<u64>,

    /// Evaluate after so many steps [default: after each epoch].
    #[arg(long, value_name = "STEPS")]
    pub(crate) evaluate_every: Option<u64>,

    /// Steps between rows of the metrics files; a row has the mean loss of the steps since.
    #[arg(long, value_name = "STEPS", default_value_t = 1)]
    pub(crate) log_every: u64,

    /// Minutes between snapshots. A killed run loses at most so much.
    #[arg(long, value_name = "M", default_value_t = 1.0)]
    pub(crate) save_minutes: f64,

    /// Steps between snapshots, beside --save-minutes.
    #[arg(long, value_name = "N")]
    pub(crate) save_steps: Option<u64>,

    /// Snapshots that stay.
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) keep: usize,

    /// Where to compute: `cpu`, `cuda` or `cuda:N`. The CPU on every machine unless this says otherwise;
    /// an optimizer that has no steps on a GPU says so.
    #[arg(long, value_name = "DEVICE", default_value = "cpu")]
    pub(crate) device: Device,

    /// Let a CUDA device round the operands of f32 products to TF32's 10 bits of mantissa.
    #[arg(long)]
    pub(crate) tf32: bool,

    /// On a CUDA device, capture a batch's forward and backward pass and launch it as a whole from then on:
    /// for small models, whose many kernels take longer to queue than to run.
    #[arg(long)]
    pub(crate) graph: bool,

    /// Fixes the starting weights, the order of the data and the masks of dropout.
    #[arg(long, default_value_t = 0)]
    pub(crate) seed: u64,

    /// The run's folder [default: target/alcyon/runs/ and a name of the task and the optimizer].
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,

    /// Start over: remove the run in that folder.
    #[arg(long)]
    pub(crate) fresh: bool,

    /// Go on with another budget though the schedule is stretched over it: the rates of the steps that are
    /// left change.
    #[arg(long)]
    pub(crate) extend: bool,

    /// Folders of other runs to show in the report beside this one. May be repeated.
    #[arg(long, value_name = "DIR")]
    pub(crate) beside: Vec<PathBuf>,
}

/// Steps of a schedule that is stretched over a budget.
const LENGTH: u64 = 100_000;

impl Options {
    /// Opens the device, or says why it cannot be had.
    pub(crate) fn open_device(&self) -> Result<()> {
        self.device.open()?.allow_tf32(self.tf32)
    }

    /// Refuses numbers that mean nothing.
    pub(crate) fn check(&self) -> Result<()> {
        let positive = [("--rate", self.rate), ("--minutes", self.minutes), ("--clip", self.clip)];
        for (name, number) in positive {
            match number {
                Some(x) if x.is_nan() || x <= 0.0 => {
                    return Err(argument(name, "positive", &x.to_string()));
                }
                Some(x) if x.is_infinite() => return Err(argument(name, "finite", "inf")),
                _ => {}
            }
        }
        if self.save_minutes.is_nan() || self.save_minutes < 0.0 {
            let got = self.save_minutes.to_string();
            return Err(argument("--save-minutes", "at least 0", &got));
        }
        match (self.keep, self.save_steps) {
            (0, _) => Err(argument("--keep", "at least 1", "0")),
            (_, Some(0)) => Err(argument("--save-steps", "at least 1", "0")),
            _ => Ok(()),
        }
    }

    /// The settings of the loop; `usual` is the number of epochs when no budget is given.
    pub(crate) fn plan(&self, rate: f64, usual: u64) -> Result<Plan> {
        if !(0.0..=1.0).contains(&self.warm_up) {
            return Err(argument("--warm-up", "in 0 ..= 1", &self.warm_up.to_string()));
        }
        let none = self.epochs.is_none() && self.steps.is_none() && self.minutes.is_none();
        let budget = Budget {
            epochs: self.epochs.or(none.then_some(usual)),
            steps: self.steps,
            seconds: self.minutes.map(|minutes| 60.0 * minutes),
            calibrate: self.calibrate,
        };
        let rising = (self.warm_up * LENGTH as f64) as u64;
        let falling = LENGTH - rising;
        let schedule = match self.schedule {
            Course::Constant => Schedule::constant(rate),
            Course::Cosine => Schedule::cosine(rate, falling),
            Course::Linear => Schedule::linear(rate, 0.0, falling),
        };
        let schedule = if rising > 0 { schedule.warm_up(rising) } else { schedule };
        Ok(Plan {
            budget,
            pace: Some(Pace::over_budget(schedule, LENGTH)),
            accumulate: self.accumulate,
            clip_norm: self.clip,
            precision: self.precision,
            graph: self.graph,
            average: self.average,
            patience: self.patience,
            evaluate: self.evaluate_every.map_or(Every::Epochs(1), Every::Steps),
            log_every: self.log_every,
            seed: self.seed,
        })
    }

    /// When snapshots are written to a folder.
    pub(crate) fn snapshots(&self, folder: PathBuf) -> Snapshots {
        let seconds = Some(60.0 * self.save_minutes);
        Snapshots { steps: self.save_steps, seconds, keep: self.keep, folder }
    }

    /// Settings that the loop does not see as they were asked for: of the optimizer `name`, at this rate.
    pub(crate) fn settings(&self, name: &str, rate: f64) -> Vec<(String, String)> {
        [
            ("optimizer", name.to_owned()),
            ("learning rate", rate.to_string()),
            ("schedule", format!("{:?}", self.schedule).to_lowercase()),
            ("warm-up", self.warm_up.to_string()),
            ("TF32", if self.tf32 { "yes" } else { "no" }.to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

/// Something wrong on the command line.
pub(crate) fn argument(name: &'static str, expected: &'static str, got: &str) -> Error {
    Error::Argument { op: "train", name, expected, got: got.to_owned() }
}
