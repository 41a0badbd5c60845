//! Curvature against the thing itself: Fisher blocks formed entry by entry from Jacobians that the
//! tape computes one output at a time. Everything in f64, on models of a few dozen numbers.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test that cannot go on has failed")]
#![allow(unreachable_pub, missing_docs, reason = "the models are this test's own")]

#[path = "fisher/audit.rs"]
mod audit;
#[path = "fisher/communicator.rs"]
mod communicator;
#[path = "fisher/exact.rs"]
mod exact;
#[path = "fisher/factors.rs"]
mod factors;
#[path = "fisher/fishers.rs"]
mod fishers;
#[path = "fisher/kept.rs"]
mod kept;
#[path = "fisher/kfac.rs"]
mod kfac;
#[path = "fisher/layers.rs"]
mod layers;
#[path = "fisher/ledger.rs"]
mod ledger;
#[path = "fisher/models.rs"]
mod models;
#[path = "fisher/operator.rs"]
mod operator;
#[path = "fisher/places.rs"]
mod places;
#[path = "fisher/robust.rs"]
mod robust;
#[path = "fisher/shampoo.rs"]
mod shampoo;
