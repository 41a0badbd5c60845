//! From a batch's factor to the one in use: a moving average and a normalisation, in either order.
//! Martins Gomes 2025, Algorithm 1 lines 3 to 5, Eqs. 19 and 20.
//!
//! ```text
//! average    v ← keep · v + gain · new
//! min-max    v' = (v − min v) / (span_scale · (max v − min v) + ε)
//! ```
//! With the average first, min-max removes the starting value and every common scale: then starting
//! at zero is exact, and no bias correction is needed. With min-max first, nothing restores the scale
//! that `keep` and `gain` leave behind, and the starting value matters. It does, too, for factors that
//! are not normalised at all: those start at the first one.

use engine::DType;

/// v ← keep · v + gain · new.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EmaRule {
    /// The weight of the old average, in [0, 1).
    pub keep: f64,
    /// The weight of the new factor, above 0.
    pub gain: f64,
}

impl EmaRule {
    /// An average proper, γ v + (1 − γ) new: Eq. 19.
    #[must_use]
    pub const fn average(gamma: f64) -> Self {
        Self { keep: gamma, gain: 1.0 - gamma }
    }

    /// 0.1 γ v + 0.01 γ new: what the authors' program of 2025 computes.
    #[must_use]
    pub const fn official(gamma: f64) -> Self {
        Self { keep: 0.1 * gamma, gain: 0.01 * gamma }
    }

    /// (1 − γ) v + γ new: what the authors' program of spring 2024 computed.
    #[must_use]
    pub const fn spring2024(gamma: f64) -> Self {
        Self { keep: 1.0 - gamma, gain: gamma }
    }

    fn advance(&self, state: &mut [f64], new: &[f64]) {
        for (v, x) in state.iter_mut().zip(new) {
            *v = self.keep * *v + self.gain * x;
        }
    }
}

/// Where the averages start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmaInit {
    /// At 0.
    Zero,
    /// At 1.
    One,
    /// At the first factor: no bias, and nothing to correct.
    First,
}

/// Which comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactorOrder {
    /// The average of raw factors is normalised: thesis and paper.
    EmaThenMinMax,
    /// Normalised factors are averaged: the authors' programs.
    MinMaxThenEma,
}

/// What a factor becomes whose entries are all equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Degenerate {
    /// 1, the identity factor: the small step.
    One,
    /// 0, so that F = λ: the large step.
    Zero,
}

/// The normalisation of a factor to about [0, 1].
///
/// # Example
/// ```
/// use alcyon_optim::curvature::{Degenerate, MinMax};
/// use engine::DType;
/// let rule = MinMax { epsilon: 0.0, span_scale: 1.0, degenerate: Degenerate::One };
/// assert_eq!(rule.apply(&[2.0, 4.0, 3.0], DType::F64), [0.0, 1.0, 0.5]);
/// assert_eq!(rule.apply(&[7.0, 7.0], DType::F64), [1.0, 1.0]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct MinMax {
    /// ε, added to the scaled span. With 0, a constant factor is degenerate.
    pub epsilon: f64,
    /// Values end in [0, 1 / span_scale].
    pub span_scale: f64,
    /// Used with ε = 0 only.
    pub degenerate: Degenerate,
}

impl MinMax {
    /// The normalised values of a factor (all its entries are ≥ 0) of a model of the given dtype.
    ///
    /// Without ε, entries that differ by less than √(machine epsilon) of the largest are taken to
    /// be equal: the two logits of a two-class head have opposite gradients, hence equal second
    /// moments up to rounding, and rounding must not decide which of them takes the long steps.
    #[must_use]
    pub fn apply(&self, values: &[f64], dtype: DType) -> Vec<f64> {
        let low = values.iter().copied().fold(f64::INFINITY, f64::min);
        let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let tolerance =
            if dtype == DType::F32 { f64::from(f32::EPSILON) } else { f64::EPSILON }.sqrt();
        if self.epsilon == 0.0 && high - low <= tolerance * high {
            let constant = if self.degenerate == Degenerate::One { 1.0 } else { 0.0 };
            return vec![constant; values.len()];
        }
        let span = self.span_scale * (high - low) + self.epsilon;
        values.iter().map(|v| (v - low) / span).collect()
    }
}

/// What a factor becomes before it enters the product H·S.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Normalisation {
    /// Brought to about [0, 1]: Eq. 20. The smallest entry becomes 0, and how many times larger the
    /// others are is lost.
    MinMax(MinMax),
    /// None: H·S is the second moment of an example's gradient, as far as it is a product.
    None,
}

impl Normalisation {
    fn apply(&self, values: &[f64], dtype: DType) -> Vec<f64> {
        match self {
            Self::MinMax(rule) => rule.apply(values, dtype),
            Self::None => values.to_vec(),
        }
    }
}

/// The whole way from new factors to those in use.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Averaging {
    /// Which comes first.
    pub order: FactorOrder,
    /// The average.
    pub ema: EmaRule,
    /// Its starting value.
    pub init: EmaInit,
    /// The normalisation.
    pub normalisation: Normalisation,
}

/// One factor after a refresh.
#[derive(Debug, Clone)]
pub(crate) struct Refreshed {
    /// The batch's own, normalised, if that comes before the average.
    pub(crate) new_norm: Option<Vec<f64>>,
    /// The running average.
    pub(crate) state: Vec<f64>,
    /// What enters the product.
    pub(crate) used: Vec<f64>,
}

impl Averaging {
    /// Averages a new factor into the running `state`. One of another length starts again.
    pub(crate) fn refresh(&self, mut state: Vec<f64>, new: &[f64], dtype: DType) -> Refreshed {
        let new_norm = match self.order {
            FactorOrder::EmaThenMinMax => None,
            FactorOrder::MinMaxThenEma => Some(self.normalisation.apply(new, dtype)),
        };
        let entering = new_norm.as_deref().unwrap_or(new);
        if state.len() != new.len() {
            state = match self.init {
                EmaInit::Zero => vec![0.0; new.len()],
                EmaInit::One => vec![1.0; new.len()],
                EmaInit::First => entering.to_vec(),
            };
            if self.init == EmaInit::First {
                let used = self.used(&state, dtype);
                return Refreshed { new_norm, state, used };
            }
        }
        self.ema.advance(&mut state, entering);
        let used = self.used(&state, dtype);
        Refreshed { new_norm, state, used }
    }

    /// The factor in use, from the running average.
    pub(crate) fn used(&self, state: &[f64], dtype: DType) -> Vec<f64> {
        match self.order {
            FactorOrder::EmaThenMinMax => self.normalisation.apply(state, dtype),
            FactorOrder::MinMaxThenEma => state.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THESIS: Averaging = Averaging {
        order: FactorOrder::EmaThenMinMax,
        ema: EmaRule::average(0.8),
        init: EmaInit::Zero,
        normalisation: Normalisation::MinMax(MIN_MAX),
    };

    const MIN_MAX: MinMax = MinMax { epsilon: 0.0, span_scale: 1.0, degenerate: Degenerate::One };

    fn after(rule: &Averaging, factors: &[&[f64]]) -> Vec<f64> {
        let average = |state, new: &&[f64]| rule.refresh(state, new, DType::F64).state;
        rule.used(&factors.iter().fold(Vec::new(), average), DType::F64)
    }

    #[test]
    fn min_max_after_the_average_forgets_scale_shift_and_start() {
        let plain = after(&THESIS, &[&[1.0, 2.0, 4.0], &[3.0, 1.0, 1.0]]);
        let scaled = after(&THESIS, &[&[8.0, 16.0, 32.0], &[24.0, 8.0, 8.0]]);
        let ones = Averaging { init: EmaInit::One, ..THESIS };
        let started_at_one = after(&ones, &[&[1.0, 2.0, 4.0], &[3.0, 1.0, 1.0]]);
        assert_eq!(plain, scaled);
        for (a, b) in plain.iter().zip(&started_at_one) {
            assert!((a - b).abs() < 1e-14);
        }
    }

    #[test]
    fn the_official_rule_settles_at_a_hundred_and_fifteenth() {
        let official = Averaging {
            order: FactorOrder::MinMaxThenEma,
            ema: EmaRule::official(0.8),
            init: EmaInit::One,
            normalisation: Normalisation::MinMax(MinMax { epsilon: 1e-6, ..MIN_MAX }),
        };
        let used = after(&official, &[[0.0, 1.0].as_slice(); 40]);
        assert!(used[0] < 1e-40 && (used[1] * 115.0 - 1.0).abs() < 1e-5, "{used:?}");
    }

    #[test]
    fn an_average_that_starts_at_the_first_factor_has_no_bias() {
        let raw = Averaging { init: EmaInit::First, normalisation: Normalisation::None, ..THESIS };
        assert_eq!(after(&raw, &[&[2.0, 4.0]]), [2.0, 4.0]);
        assert_eq!(after(&raw, &[[2.0, 4.0].as_slice(); 7]), [2.0, 4.0]);
    }

    #[test]
    fn rounding_does_not_decide_between_equal_entries() {
        let nearly = [1.0, 1.0 + 1e-6];
        assert_eq!(MIN_MAX.apply(&nearly, DType::F32), [1.0, 1.0]);
        assert_eq!(MIN_MAX.apply(&nearly, DType::F64), [0.0, 1.0]);
        assert_eq!(MIN_MAX.apply(&[0.0, 0.0], DType::F64), [1.0, 1.0]);
        assert_eq!(MIN_MAX.apply(&[5.0], DType::F64), [1.0]);
    }
}
