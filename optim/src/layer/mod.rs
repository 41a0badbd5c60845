//! Optimizers that look at a layer: its inputs and its output gradients.

pub(crate) mod adafisher;
pub(crate) mod adafisher_band;
pub(crate) mod ekfac;
pub(crate) mod eva;
pub(crate) mod foof;
pub(crate) mod kfac;
pub(crate) mod mkor;
pub(crate) mod singd;
pub(crate) mod skfac;
pub(crate) mod tnt;
