//! Learning rates that follow a course. Cosine: Loshchilov & Hutter 2017;  warm-up, stable, decay:
//! Hu et al. 2024 (MiniCPM).
//!
//! A schedule is a function of the number of steps already taken: `rate(0)` is for the first step.
//! Its unit is a step; for epochs, multiply by the steps of one.

use std::f64::consts::PI;

use crate::Optimizer;

/// A learning rate (or damping, or any other number) over time.
///
/// # Example
/// ```
/// use alcyon_optim::Schedule;
/// let rate = Schedule::cosine(0.4, 100).warm_up(4);
/// assert_eq!(rate.rate(0), 0.4 / 5.0); // a fifth of the way up
/// assert_eq!(rate.rate(4), 0.4); // the warm-up is over, the cosine begins
/// assert!((rate.rate(54) - 0.2).abs() < 1e-15); // half way down
/// assert_eq!(rate.rate(1000), 0.0);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Schedule {
    /// Always the same.
    Constant {
        /// The rate.
        rate: f64,
    },
    /// Multiplied by `factor` after each `every` steps.
    Step {
        /// The rate at first.
        rate: f64,
        /// Steps at one level.
        every: u64,
        /// What the next level is multiplied by.
        factor: f64,
    },
    /// A straight line, then constant.
    Linear {
        /// At step 0.
        from: f64,
        /// From step `steps` on.
        to: f64,
        /// The length of the line.
        steps: u64,
    },
    /// Half a period of a cosine, then constant.
    Cosine {
        /// At step 0.
        from: f64,
        /// From step `steps` on.
        to: f64,
        /// The length of the half period.
        steps: u64,
    },
    /// One schedule for some steps, then another from its own beginning.
    Sequence {
        /// The first one.
        first: Box<Self>,
        /// How long it is followed.
        steps: u64,
        /// The one after it.
        then: Box<Self>,
    },
}

impl Schedule {
    /// Always `rate`.
    #[must_use]
    pub const fn constant(rate: f64) -> Self {
        Self::Constant { rate }
    }

    /// `rate · factor^⌊step / every⌋`. With `every` = 0 it is constant.
    #[must_use]
    pub const fn step(rate: f64, every: u64, factor: f64) -> Self {
        Self::Step { rate, every, factor }
    }

    /// From `from` to `to` in a straight line of `steps` steps, then `to`.
    #[must_use]
    pub const fn linear(from: f64, to: f64, steps: u64) -> Self {
        Self::Linear { from, to, steps }
    }

    /// From `rate` to 0: `rate · (1 + cos(π step / steps)) / 2`, then 0.
    #[must_use]
    pub const fn cosine(rate: f64, steps: u64) -> Self {
        Self::cosine_to(rate, 0.0, steps)
    }

    /// From `rate` to `floor` by half a cosine of `steps` steps, then `floor`.
    #[must_use]
    pub const fn cosine_to(rate: f64, floor: f64, steps: u64) -> Self {
        Self::Cosine { from: rate, to: floor, steps }
    }

    /// Warm-up, stable, decay: up in `warm_up` steps, `rate` for `stable` steps, down to 0 in `decay`
    /// steps by a straight line.
    #[must_use]
    pub fn wsd(rate: f64, warm_up: u64, stable: u64, decay: u64) -> Self {
        let down = Self::linear(rate, 0.0, decay);
        Self::constant(rate).then(stable, down).warm_up(warm_up)
    }

    /// This schedule for `steps` steps, then `next` from its beginning.
    #[must_use]
    pub fn then(self, steps: u64, next: Self) -> Self {
        Self::Sequence { first: Box::new(self), steps, then: Box::new(next) }
    }

    /// Before this schedule, `steps` steps up to its first rate, in equal parts: 1/(steps + 1),
    /// 2/(steps + 1), … of it. So no step is wasted at rate 0.
    #[must_use]
    pub fn warm_up(self, steps: u64) -> Self {
        let top = self.rate(0);
        let first = top / (steps + 1) as f64;
        Self::linear(first, top, steps).then(steps, self)
    }

    /// The rate after `step` steps have been taken.
    #[must_use]
    pub fn rate(&self, step: u64) -> f64 {
        let between = |from: f64, to: f64, progress: f64| from + (to - from) * progress;
        match self {
            Self::Constant { rate } => *rate,
            Self::Step { rate, every, factor } => {
                rate * factor.powf(step.checked_div(*every).unwrap_or(0) as f64)
            }
            Self::Linear { to, steps, .. } | Self::Cosine { to, steps, .. } if step >= *steps => {
                *to
            }
            Self::Linear { from, to, steps } => between(*from, *to, step as f64 / *steps as f64),
            Self::Cosine { from, to, steps } => {
                let angle = PI * step as f64 / *steps as f64;
                between(*from, *to, 0.5 * (1.0 - angle.cos()))
            }
            Self::Sequence { first, steps, .. } if step < *steps => first.rate(step),
            Self::Sequence { steps, then, .. } => then.rate(step - steps),
        }
    }

    /// Sets an optimizer's rate for the step after `step` others.
    pub fn apply(&self, step: u64, optimizer: &mut dyn Optimizer) {
        optimizer.set_rate(self.rate(step));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_go_down_in_stairs() {
        let rate = Schedule::step(1.0, 3, 0.5);
        let rates: Vec<f64> = (0..7).map(|t| rate.rate(t)).collect();
        assert_eq!(rates, [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25]);
        assert_eq!(Schedule::step(1.0, 0, 0.5).rate(9), 1.0);
    }

    #[test]
    fn warm_up_stable_decay_has_no_zero_and_no_jump() {
        let rate = Schedule::wsd(1.0, 3, 2, 4);
        let rates: Vec<f64> = (0..10).map(|t| rate.rate(t)).collect();
        assert_eq!(rates, [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 0.75, 0.5, 0.25, 0.0]);
    }

    #[test]
    fn schedules_without_length_are_where_they_end() {
        assert_eq!(Schedule::linear(1.0, 0.5, 0).rate(0), 0.5);
        assert_eq!(Schedule::cosine_to(1.0, 0.1, 0).rate(0), 0.1);
        assert_eq!(Schedule::constant(0.3).warm_up(0).rate(0), 0.3);
    }

    #[test]
    fn a_sequence_starts_its_second_part_at_its_own_zero() {
        let rate = Schedule::constant(2.0).then(5, Schedule::linear(1.0, 0.0, 10));
        assert_eq!([rate.rate(4), rate.rate(5), rate.rate(10)], [2.0, 1.0, 0.5]);
    }
}
