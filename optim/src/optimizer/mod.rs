//! What an optimizer is to its callers: the contract, the backward pass that feeds it, what it covers, schedules.

pub(crate) mod backward;
pub(crate) mod contract;
pub(crate) mod coverage;
pub(crate) mod evaluate_at_average;
pub(crate) mod on_host;
pub(crate) mod problem;
pub(crate) mod schedule;
