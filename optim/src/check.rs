//! Checks of arguments: each names the op, the argument, what was expected and what came.

use engine::{Error, Result};

/// Refuses an option outside its range.
pub(crate) fn demand(
    op: &'static str,
    name: &'static str,
    value: f64,
    expected: &'static str,
    holds: bool,
) -> Result<()> {
    if holds {
        return Ok(());
    }
    Err(Error::Argument { op, name, expected, got: value.to_string() })
}

/// Refuses what is negative or not finite.
pub(crate) fn not_negative(op: &'static str, name: &'static str, value: f64) -> Result<()> {
    demand(op, name, value, "finite and not negative", value.is_finite() && value >= 0.0)
}

/// Refuses what is not in [0, 1).
pub(crate) fn below_one(op: &'static str, name: &'static str, value: f64) -> Result<()> {
    demand(op, name, value, "in [0, 1)", (0.0..1.0).contains(&value))
}

/// Refuses what is not positive and finite.
pub(crate) fn positive(op: &'static str, name: &'static str, value: f64) -> Result<()> {
    demand(op, name, value, "positive", value.is_finite() && value > 0.0)
}
