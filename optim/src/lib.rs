//! Alcyon's optimizers, and the curvature they use.
//!
//! Curvature optimizers are three small roles: **estimate** (records → factors), **precondition**
//! (factors → direction), **step** (direction → parameter). An optimizer is one file that reads
//! like the paper's algorithm box.
#![forbid(unsafe_code)]

pub mod backward;
pub mod coverage;
pub mod curvature;
pub mod kfac;
mod moments;
pub mod optimizer;
mod saved;
pub mod shampoo;

pub use backward::{Pass, backward};
pub use coverage::Coverage;
pub use curvature::{CurvatureSource, Fisher};
pub use kfac::{Kfac, KfacConfig};
pub use optimizer::{Optimizer, State};
pub use shampoo::{Shampoo, ShampooConfig};
