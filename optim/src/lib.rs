//! Alcyon's optimizers, and the curvature they use.
//!
//! Curvature optimizers are three small roles: **estimate** (records → factors), **precondition**
//! (factors → direction), **step** (direction → parameter). An optimizer is one file that reads
//! like the paper's algorithm box.
#![forbid(unsafe_code)]

pub mod adafisher;
pub mod adam;
pub mod backward;
pub mod coverage;
pub mod curvature;
pub mod kfac;
mod moments;
pub mod optimizer;
pub mod registry;
mod saved;
pub mod schedule;
pub mod sgd;
pub mod shampoo;

pub use adafisher::{AdaFisher, AdaFisherConfig};
pub use adam::{Adam, AdamConfig};
pub use backward::{Pass, backward};
pub use coverage::Coverage;
pub use curvature::{CurvatureSource, Fisher};
pub use kfac::{Kfac, KfacConfig};
pub use optimizer::{Optimizer, State};
pub use registry::{build, known};
pub use schedule::Schedule;
pub use sgd::{Sgd, SgdConfig};
pub use shampoo::{Shampoo, ShampooConfig};
