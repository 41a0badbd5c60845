//! Whether the loss falls on batches that have not been stepped on yet.
//!
//! ρ compares the loss of a batch with itself after a step on it. On a small batch that says little: with a small λ
//! the step learns the batch by heart, ρ stays near 1, λ falls further, and the loss of everything else rises. The
//! loss of the *next* batch, before its step, is at hand. Its mean over the steps between two looks is compared
//! with the mean before: where it has risen, λ grows, whatever ρ is. (A whole batch, over and over, shows what ρ
//! shows.) A loss that has left all bounds is an error.

use engine::{Error, Result};

use crate::State;
use crate::frame::saved::Saved;

/// What its entries of a saved state begin with.
pub(super) const KEY: &str = "trend.";

/// How far above the first loss, in sizes of it, training has failed.
const LOST: f64 = 10.0;

/// Losses before steps.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Trend {
    /// Of the first batches, up to the first look; then its mean.
    first: Option<f64>,
    /// Since the last look.
    sum: f64,
    count: u64,
    /// The mean up to it.
    mean: Option<f64>,
}

impl Trend {
    /// One more loss.
    pub(super) fn add(&mut self, loss: f64) {
        self.first.get_or_insert(loss);
        self.sum += loss;
        self.count += 1;
    }

    /// Whether the mean since the last look is not above the one before.
    pub(super) fn look(&mut self) -> bool {
        let mean = self.sum / self.count.max(1) as f64;
        let steady = self.mean.is_none_or(|before| mean <= before);
        (self.sum, self.count, self.mean) = (0.0, 0, Some(mean));
        steady
    }

    /// Refuses to go on from a loss that is far above where training began.
    ///
    /// # Errors
    /// [`Error::Diverged`].
    pub(super) fn refuse_divergence(&self, loss: f64) -> Result<()> {
        match self.first {
            Some(first) if loss - first > LOST * first.abs().max(1.0) => Err(Error::Diverged {
                op: "kfac-adaptive",
                first,
                loss,
                instead: "larger batches, a larger `least_damping`, or `adapt_every: 0`",
            }),
            _ => Ok(()),
        }
    }

    pub(super) fn save(&self, state: &mut State) {
        let mut put = |key: &str, text: String| state.numbers.insert(format!("{KEY}{key}"), text);
        put("sum", self.sum.to_string());
        put("count", self.count.to_string());
        self.first.map(|first| put("first", first.to_string()));
        self.mean.map(|mean| put("mean", mean.to_string()));
    }

    /// A state from before there was a trend has none.
    pub(super) fn load(saved: &mut Saved) -> Result<Self> {
        let mut number = |key: &str| saved.number_if_any::<f64>(&format!("{KEY}{key}"));
        let (first, mean, sum) = (number("first")?, number("mean")?, number("sum")?.unwrap_or(0.0));
        let count = saved.count_if_any(&format!("{KEY}count"))?.unwrap_or(0);
        Ok(Self { first, sum, count, mean })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mean_that_rises_is_not_steady_and_a_loss_out_of_bounds_is_an_error() {
        let mut trend = Trend::default();
        [2.0, 4.0].into_iter().for_each(|loss| trend.add(loss));
        assert!(trend.look(), "there is nothing to compare with");
        [4.0, 1.0].into_iter().for_each(|loss| trend.add(loss));
        assert!(trend.look());
        trend.add(2.6);
        assert!(!trend.look());
        assert!(trend.refuse_divergence(20.0).is_ok());
        let lost = trend.refuse_divergence(25.0);
        assert!(matches!(lost, Err(Error::Diverged { first: 2.0, loss: 25.0, .. })), "{lost:?}");
    }
}
