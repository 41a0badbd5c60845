//! The learning rate over a run: a schedule, and what its steps are.

use std::fmt;

use optim::Schedule;

/// A schedule over a run.
///
/// # Example
/// ```
/// use alcyon_train::Pace;
/// use optim::Schedule;
/// let stretched = Pace::over_budget(Schedule::cosine(0.1, 1000), 1000);
/// assert_eq!(stretched.rate(7, 0.0), 0.1); // whatever the step, none of the budget is used
/// assert!((stretched.rate(7, 0.5) - 0.05).abs() < 1e-15);
/// assert_eq!(stretched.rate(7, 1.0), 0.0);
/// ```
#[derive(Debug, Clone, PartialEq)]
pub enum Pace {
    /// Its steps are the run's.
    Steps(Schedule),
    /// So many of its steps are spread over the budget, whether that is in steps or in seconds: a
    /// cosine then ends where the run does.
    Budget {
        /// The schedule.
        schedule: Schedule,
        /// Its step number when all of the budget is used.
        length: u64,
    },
}

impl Pace {
    /// A schedule of `length` steps stretched over the budget.
    #[must_use]
    pub const fn over_budget(schedule: Schedule, length: u64) -> Self {
        Self::Budget { schedule, length }
    }

    /// The rate for the step after `step` others, when a share `used` of the budget is gone.
    #[must_use]
    pub fn rate(&self, step: u64, used: f64) -> f64 {
        match self {
            Self::Steps(schedule) => schedule.rate(step),
            Self::Budget { schedule, length } => {
                schedule.rate((used.clamp(0.0, 1.0) * *length as f64) as u64)
            }
        }
    }
}

impl Pace {
    /// Whether another budget would change the rate of a step, when a share `used` of it is gone.
    pub(crate) fn stretches(&self, used: f64) -> bool {
        match self {
            Self::Steps(_) => false,
            Self::Budget { schedule, length } => {
                !is_constant_from(schedule, (used.clamp(0.0, 1.0) * *length as f64) as u64)
            }
        }
    }
}

fn is_constant_from(schedule: &Schedule, step: u64) -> bool {
    match schedule {
        Schedule::Constant { .. } => true,
        Schedule::Step { every, factor, .. } => *every == 0 || *factor == 1.0,
        Schedule::Linear { from, to, steps } | Schedule::Cosine { from, to, steps } => {
            step >= *steps || from == to
        }
        Schedule::Sequence { steps, then, .. } => {
            step.checked_sub(*steps).is_some_and(|rest| is_constant_from(then, rest))
        }
    }
}

/// In words that are others for any other course.
impl fmt::Display for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steps(schedule) => course(schedule, f),
            Self::Budget { schedule, length } => {
                course(schedule, f)?;
                write!(f, "; {length} steps of it over the budget")
            }
        }
    }
}

fn course(schedule: &Schedule, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    match schedule {
        Schedule::Constant { rate } => write!(f, "constant {rate}"),
        Schedule::Step { rate, every, factor } => {
            write!(f, "{rate}, times {factor} after each {every}")
        }
        Schedule::Linear { from, to, steps } => write!(f, "linear {from} to {to} in {steps}"),
        Schedule::Cosine { from, to, steps } => write!(f, "cosine {from} to {to} in {steps}"),
        Schedule::Sequence { first, steps, then } => {
            course(first, f)?;
            write!(f, " until {steps}, then ")?;
            course(then, f)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_matters_to_the_rates_until_they_no_longer_change() {
        let over = |schedule| Pace::over_budget(schedule, 100);
        let cosine = Schedule::cosine(0.1, 100);
        assert!(over(cosine.clone()).stretches(0.99) && !over(cosine.clone()).stretches(1.0));
        assert!(!Pace::Steps(cosine).stretches(0.0));
        let warm = over(Schedule::constant(0.1).warm_up(5));
        assert!(warm.stretches(0.0) && warm.stretches(0.04) && !warm.stretches(0.05));
        assert!(!over(Schedule::constant(0.1)).stretches(0.0));
    }

    #[test]
    fn another_course_has_other_words() {
        let warm = Schedule::cosine(0.1, 900).warm_up(1);
        let text = Pace::over_budget(warm.clone(), 1000).to_string();
        let words = "linear 0.05 to 0.1 in 1 until 1, then cosine 0.1 to 0 in 900";
        assert_eq!(text, format!("{words}; 1000 steps of it over the budget"));
        assert_eq!(Pace::Steps(warm).to_string(), words);
    }
}
