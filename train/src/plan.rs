//! `Plan`: every setting of a run that is not the model, the data or the optimizer.

use engine::{Error, Result};

use crate::{Budget, Pace, Precision};

/// When to evaluate. The end of a run is always evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Every {
    /// After so many epochs; 0 for never.
    Epochs(u64),
    /// After so many steps; 0 for never.
    Steps(u64),
}

/// The settings of a run. `Default` is one epoch at the optimizer's rate, evaluated at its end.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// When it is over.
    pub budget: Budget,
    /// The learning rate; `None` leaves it to the optimizer.
    pub pace: Option<Pace>,
    /// Batches for one step, at least 1. Their gradients are averaged by their numbers of terms, and
    /// curvature sums over them: so several small batches make the step of a large one (but for layers
    /// that look across a batch, like batch norm). At an epoch's end fewer may be left.
    pub accumulate: usize,
    /// Gradients with a larger Euclidean norm, over all parameters together, are scaled down to it.
    pub clip_norm: Option<f64>,
    /// What products are computed in. Evaluations are in f32.
    pub precision: Precision,
    /// On a CUDA device: forward and backward pass are captured once for each shape of batch and launched
    /// as a whole from then on ([`engine::Tape`]'s numbers, in less of the host's time). The task must read
    /// nothing, and draw at random by dropout alone. Elsewhere the run refuses.
    pub graph: bool,
    /// The decay of an average of the weights, which evaluations then use: in 0 .. 1.
    pub average: Option<f64>,
    /// Ends the run when so many evaluations in a row were no better than the best.
    pub patience: Option<u64>,
    /// When to evaluate.
    pub evaluate: Every,
    /// Steps between those that observers are told of, at least 1.
    pub log_every: u64,
    /// What the masks of dropout are drawn from.
    pub seed: u64,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            budget: Budget::epochs(1),
            pace: None,
            accumulate: 1,
            clip_norm: None,
            precision: Precision::F32,
            graph: false,
            average: None,
            patience: None,
            evaluate: Every::Epochs(1),
            log_every: 1,
            seed: 0,
        }
    }
}

impl Plan {
    /// Whether the settings make sense.
    ///
    /// # Errors
    /// [`Error::Argument`] naming the first that does not.
    ///
    /// # Example
    /// ```
    /// use alcyon_train::Plan;
    /// assert!(Plan::default().check().is_ok());
    /// assert!(Plan { accumulate: 0, ..Plan::default() }.check().is_err());
    /// ```
    pub fn check(&self) -> Result<()> {
        self.budget.check()?;
        let demand = |name, right, expected, got: String| match right {
            true => Ok(()),
            false => Err(Error::Argument { op: "train", name, expected, got }),
        };
        let (accumulate, log_every) = (self.accumulate, self.log_every);
        demand("accumulate", accumulate > 0, "at least 1", accumulate.to_string())?;
        demand("log_every", log_every > 0, "at least 1", log_every.to_string())?;
        let norm = self.clip_norm.unwrap_or(1.0);
        demand("clip_norm", norm > 0.0, "positive", norm.to_string())?;
        let decay = self.average.unwrap_or(0.0);
        demand("average", (0.0..1.0).contains(&decay), "a decay in 0 .. 1", decay.to_string())?;
        demand("patience", self.patience != Some(0), "at least 1", "0".into())
    }
}
