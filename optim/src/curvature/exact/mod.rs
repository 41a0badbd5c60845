//! Curvature that is not approximated, for a batch: blocks, products, seeds.

pub(crate) mod exact_block;
pub(crate) mod fishers;
pub(crate) mod products;
pub(crate) mod recorded;
pub(crate) mod seeds;
