//! How long to train: epochs, steps, seconds, or the first of them to be used up.

use std::fmt;

use engine::{Error, Result};

use crate::Place;

/// What a run may use. Whatever is `None` does not limit it; all `None` is refused.
///
/// Equal wall-clock time is the protocol of the AdaFisher paper (arXiv 2405.16397, section 4: every
/// optimizer gets the time of 200 epochs of AdaFisher). A stopwatch makes a run depend on what else the
/// machine does; with `calibrate` = n > 0 the first n steps are timed, and the number of steps is then
/// fixed at what would fill the time. From there on nothing depends on the clock.
///
/// # Example
/// ```
/// use alcyon_train::Budget;
/// assert_eq!(Budget::epochs(3), Budget { epochs: Some(3), ..Budget::default() });
/// assert!(Budget::default().check().is_err());
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Budget {
    /// Passes over the training data.
    pub epochs: Option<u64>,
    /// Optimizer steps.
    pub steps: Option<u64>,
    /// Seconds of training: reading batches and taking steps, not evaluating or saving.
    pub seconds: Option<f64>,
    /// Steps after which `seconds` becomes a number of steps; 0 for never.
    pub calibrate: u64,
}

impl Budget {
    /// So many passes.
    #[must_use]
    pub fn epochs(epochs: u64) -> Self {
        Self { epochs: Some(epochs), ..Self::default() }
    }

    /// So many steps.
    #[must_use]
    pub fn steps(steps: u64) -> Self {
        Self { steps: Some(steps), ..Self::default() }
    }

    /// So many seconds.
    #[must_use]
    pub fn seconds(seconds: f64) -> Self {
        Self { seconds: Some(seconds), ..Self::default() }
    }

    /// Whether it is a limit at all.
    ///
    /// # Errors
    /// [`Error::Argument`] when nothing limits the run, or seconds are not positive and finite.
    pub fn check(&self) -> Result<()> {
        let refused =
            |name, expected, got: String| Err(Error::Argument { op: "train", name, expected, got });
        match *self {
            Self { seconds: Some(s), .. } if !(s.is_finite() && s > 0.0) => {
                refused("seconds", "positive and finite", s.to_string())
            }
            Self { epochs: None, steps: None, seconds: None, .. } => {
                refused("budget", "epochs, steps or seconds", "none of them".into())
            }
            _ => Ok(()),
        }
    }

    /// The share that is used up, 0 at the start and at least 1 at the end: of the limit that is furthest
    /// along.
    #[must_use]
    pub fn used(&self, place: &Place, steps_per_epoch: u64) -> f64 {
        let share = |of: u64, all: u64| if all == 0 { 1.0 } else { of as f64 / all as f64 };
        let by_epochs = self.epochs.map(|n| share(place.step, n.saturating_mul(steps_per_epoch)));
        let by_steps = self.steps.map(|n| share(place.step, n));
        let by_time = match place.calibrated {
            Some(steps) => Some(share(place.step, steps)),
            None => self.seconds.map(|all| place.seconds / all),
        };
        [by_epochs, by_steps, by_time].into_iter().flatten().fold(0.0, f64::max)
    }

    /// The number of steps that would fill the seconds, once enough of them have been timed.
    pub(crate) fn calibrated(&self, place: &Place) -> Option<u64> {
        let enough = self.calibrate > 0 && place.step >= self.calibrate && place.seconds > 0.0;
        let all = self.seconds.filter(|_| enough)?;
        Some(((all / place.seconds * place.step as f64).round() as u64).max(place.step))
    }
}

impl fmt::Display for Budget {
    /// # Example
    /// ```
    /// use alcyon_train::Budget;
    /// let budget = Budget { steps: Some(9), seconds: Some(90.0), ..Budget::default() };
    /// assert_eq!(budget.to_string(), "9 steps or 1.5 minutes");
    /// ```
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let limits = [
            self.epochs.map(|n| format!("{n} epochs")),
            self.steps.map(|n| format!("{n} steps")),
            self.seconds.map(|s| format!("{} minutes", s / 60.0)),
            (self.calibrate > 0).then(|| format!("what {} steps say of them", self.calibrate)),
        ];
        f.write_str(&limits.into_iter().flatten().collect::<Vec<_>>().join(" or "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(step: u64, seconds: f64) -> Place {
        Place { step, seconds, ..Place::default() }
    }

    #[test]
    fn the_limit_that_is_furthest_along_decides() {
        let both = Budget { epochs: Some(2), seconds: Some(4.0), ..Budget::default() };
        assert_eq!(both.used(&place(5, 1.0), 10), 0.25);
        assert_eq!(both.used(&place(5, 3.0), 10), 0.75);
        assert_eq!(Budget::steps(0).used(&place(0, 0.0), 10), 1.0);
    }

    #[test]
    fn time_becomes_steps_when_enough_of_them_are_timed() {
        let budget = Budget { seconds: Some(10.0), calibrate: 4, ..Budget::default() };
        assert_eq!(budget.calibrated(&place(3, 1.5)), None);
        assert_eq!(budget.calibrated(&place(4, 2.0)), Some(20));
        assert_eq!(budget.calibrated(&place(4, 40.0)), Some(4), "not fewer than are taken");
        let fixed = Place { calibrated: Some(20), ..place(5, 9.9) };
        assert_eq!(budget.used(&fixed, 1), 0.25, "the clock no longer counts");
    }

    #[test]
    fn budgets_that_limit_nothing_are_refused() {
        assert!(matches!(Budget::default().check(), Err(Error::Argument { name: "budget", .. })));
        for seconds in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let refused = Budget::seconds(seconds).check();
            assert!(matches!(refused, Err(Error::Argument { name: "seconds", .. })), "{seconds}");
        }
        assert!(Budget::epochs(0).check().is_ok());
    }
}
