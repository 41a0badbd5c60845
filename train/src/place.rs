//! Where a run is: everything that the loop itself has to remember.

use serde::{Deserialize, Serialize};

use crate::LossScale;

/// A point between two steps of a run.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Place {
    /// Steps taken.
    pub step: u64,
    /// The epoch that the next batch is from; the first is 0.
    pub epoch: u64,
    /// Batches of this epoch that have been used.
    pub batch: usize,
    /// Seconds of training so far: reading batches and taking steps.
    pub seconds: f64,
    /// The best evaluation.
    pub best: Option<Best>,
    /// Evaluations since then.
    pub since_best: u64,
    /// The step of the last evaluation.
    pub evaluated: Option<u64>,
    /// The number of steps that a budget of seconds came to ([`Budget::calibrate`](crate::Budget)).
    pub calibrated: Option<u64>,
    /// Of the losses since the last logged step: their sum.
    pub loss_sum: f64,
    /// And their number.
    pub loss_count: u64,
    /// What gradients in f16 are scaled by.
    #[serde(default)]
    pub loss_scale: LossScale,
}

impl Place {
    /// Whether it is the place of this step, and every counter goes on: f64 tells it from the next.
    pub(crate) fn is_of(&self, step: u64) -> bool {
        let counters = [step, self.epoch, self.batch as u64, self.since_best, self.loss_count];
        self.step == step && counters.iter().all(|&count| count < 1 << 53)
    }
}

/// The best evaluation of a run.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Best {
    /// Its score.
    pub score: f64,
    /// Steps that had been taken.
    pub step: u64,
}
