//! Optimizers that look at entries: a gradient, and moments of it.

pub(crate) mod adabelief;
pub(crate) mod adabound;
pub(crate) mod adafactor;
pub(crate) mod adagrad;
pub(crate) mod adam;
pub(crate) mod lamb;
pub(crate) mod lars;
pub(crate) mod lion;
pub(crate) mod nadam;
pub(crate) mod prodigy;
pub(crate) mod radam;
pub(crate) mod rmsprop;
pub(crate) mod sam;
pub(crate) mod schedule_free;
pub(crate) mod sgd;
